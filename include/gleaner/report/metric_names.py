"""What /gleaner/metrics tells: each name with its type, its labels and what it means. docs/watch.md has the same table.

No label is a tenant, a website or a page: what is told stays as small as the code, whatever is taken in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One name of the exposition. A histogram's name stands for those with _bucket, _sum and _count behind it."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


def _gauge(name: str, help_text: str, *labels: str) -> Metric:
    return Metric(name=f"gleaner_{name}", kind="gauge", help=help_text, labels=labels)


def _counter(name: str, help_text: str, *labels: str) -> Metric:
    return Metric(name=f"gleaner_{name}_total", kind="counter", help=help_text, labels=labels)


def _histogram(name: str, help_text: str, *labels: str) -> Metric:
    return Metric(name=f"gleaner_{name}", kind="histogram", help=help_text, labels=labels)


ALWAYS: Final = (
    _gauge("build_info", "1; Gleaner's version, and that of what it makes of a page", "version", "pipeline_version"),
    _gauge("up", "1 when the knowledge database can be used; with 0 nothing of what is in it is told"),
    _gauge("database_fault", "1 while the knowledge database cannot be used: setup, unreachable or timeout", "reason"),
    _gauge("pool_slots", "Slots of Gleaner's pools: total, running, queued, scheduled, deferred", "pool", "state"),
    _gauge("recent_dag_runs", "The newest 200 runs of Gleaner's DAGs, by state", "dag_id", "state"),
)
KNOWLEDGE: Final = (
    _gauge("schema_version", "Number of the newest migration in the database"),
    _gauge("collect_seconds", "How long the database was asked for what is told here"),
    # pages
    _gauge("pages", "Pages by state", "state"),
    _counter("page_transitions", "Pages that came into a state; the rate of chunked is pages per second", "state"),
    _gauge("oldest_unchunked_page_seconds", "Age of the oldest content that is fetched and not loaded; 0: none waits"),
    _gauge("gap", "What should be searchable and is not: pages_not_chunked, chunks_without_vector", "part"),
    # chunks
    _gauge("chunks", "Chunks stored, by embedding model", "model"),
    _gauge("chunks_without_vector", "Of them, those that wait for a vector", "model"),
    _counter("chunk_writes", "Chunks created, updated, deleted, or left unchanged by loads", "outcome"),
    _counter("stale_pages", "Pages that a load refused, because newer content was there"),
    # failures
    _gauge(
        "dead_letters",
        "Failures that are not mended; the rarest kinds are told as other",
        "stage",
        "reason",
    ),
    _gauge("dead_letters_given_up", "Of them, those no longer tried again, at the last look over the knowledge"),
    # runs
    _counter("runs", "Runs that ended: crawl, rebuild or mend, by the state of the crawl", "kind", "state"),
    _histogram("run_seconds", "How long runs took, from their start to their report", "kind"),
    _histogram("stage_seconds", "How long crawls, and batches of the other stages, took", "stage"),
    _gauge("active_runs", "Runs that began and have not ended", "kind"),
    _gauge("oldest_active_run_seconds", "Since the first of them began; 0: there is none", "kind"),
    _gauge("sources", "Websites: refreshed, paused, or unscheduled", "state"),
    _gauge("sources_overdue", "Websites that were not crawled for more than twice their interval"),
    # embedding
    _counter("embedding_requests", "Requests that brought vectors", "model"),
    _counter("embedding_inputs", "Texts that were embedded", "model"),
    _counter("embedding_tokens", "Tokens that were paid for", "model"),
    _counter("vectors_reused", "Vectors that were taken instead of asked for"),
    _counter("texts_postponed", "Texts stored without a vector: the quota is spent, or the breaker is open", "why"),
    _counter("endpoint_throttled", "Requests that the endpoint answered with 429, or asked to be sent later"),
    _counter("endpoint_failures", "Requests that failed by the endpoint's fault"),
    _counter("limiter_waits", "Times that a request waited for its turn under the shared limits"),
    _counter("limiter_wait_seconds", "How long these waits were together"),
    _gauge("breaker_state", "1 for the state of the circuit breaker: closed, open, half-open", "endpoint", "state"),
    _gauge("shared_state_up", "1 when the shared state of limits and breakers could be read"),
    _gauge("tenants", "Tenants"),
    _gauge("tenants_over_quota", "Tenants that have spent their tokens of the month"),
    # the database
    _gauge("table_bytes", "Bytes on disk of each table with its indexes; page_snapshot holds the snapshots", "table"),
    _gauge("database_bytes", "Bytes on disk of the database"),
    _gauge("database_capacity_bytes", "GLEANER_DATABASE_CAPACITY_BYTES, if the API server has it"),
    # what maintain_knowledge looks over every hour
    _gauge("check_timestamp_seconds", "When the knowledge was last looked over; 0: never"),
    _gauge("duplicates", "Chunks that are stored more than once, at that time"),
    _gauge("constraint_ok", "1 when unique_chunk_per_source is what it has to be, at that time"),
    _gauge("invalid_indexes", "Indexes that are not valid, at that time"),
    _gauge("disagreeing_fences", "Pages with another number of chunks than was loaded, at that time"),
)
METRICS: Final = (*ALWAYS, *KNOWLEDGE)
