"""Reads what /gleaner/metrics tells from the knowledge database, and writes it as Prometheus reads it.

The numbers are kept up by the database, in the transaction of each change: what is killed and run again is counted
once. Reading them costs the same whatever the number of pages and chunks.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from include.gleaner import __version__
from include.gleaner.config import PIPELINE_VERSION
from include.gleaner.report.metric_names import METRICS, Metric
from include.gleaner.sql import queries

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
STATES: Final = ("discovered", "fetched", "completed", "chunked", "failed", "gone", "skipped")
RUN_KINDS: Final = ("crawl", "rebuild", "mend")
STAGES: Final = ("crawl", "process", "load", "renew")
BOUNDS: Final = (1, 5, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600, 86_400)  # as gleaner.duration_bucket has
MOST_KINDS_OF_FAILURE: Final = 30
CONSTRAINT: Final = "UNIQUE (tenant_id, source_id, chunk_type, chunk_index, embedding_model)"

# Counters that are told from their first scrape on, so that the first of anything is an increase.
_FROM_ZERO: Final = {
    "gleaner_page_transitions_total": STATES,
    "gleaner_chunk_writes_total": ("created", "updated", "unchanged", "deleted"),
    "gleaner_texts_postponed_total": ("quota", "breaker"),
}

Labels = tuple[str, ...]


@dataclass
class Samples:
    """Values by name and labels, in the order of the metric's label names."""

    values: dict[str, dict[Labels, float]] = field(default_factory=lambda: defaultdict(dict))
    buckets: dict[str, dict[Labels, dict[str, float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )

    def put(self, name: str, value: float, *labels: str) -> None:
        self.values[name][labels] = float(value)

    def add(self, other: Samples) -> None:
        """Take in what another one has."""
        self.values.update(other.values)
        self.buckets.update(other.buckets)

    def families(self) -> Iterator[Family]:
        """In the order of METRICS; what has no value is not there."""
        for metric in METRICS:
            if metric.kind == "histogram":
                yield from _histogram(metric, self.buckets[metric.name], self.values[metric.name])
            elif found := self.values.get(metric.name):
                make = GaugeMetricFamily if metric.kind == "gauge" else CounterMetricFamily
                family = make(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
                for labels, value in sorted(found.items()):
                    family.add_metric(labels, value)
                yield family


def exposition(samples: Samples) -> bytes:
    """The text that Prometheus reads, of CONTENT_TYPE."""
    return generate_latest(_Collected(samples))


def about_gleaner(samples: Samples) -> None:
    """What is known without the database."""
    samples.put("gleaner_build_info", 1, __version__, str(PIPELINE_VERSION))


def read_knowledge(conn: psycopg.Connection, samples: Samples, *, capacity: float | None = None) -> None:
    """What the knowledge database tells; `capacity` in bytes is what it may grow to. Raises psycopg.Error."""
    began = time.monotonic()
    sql = queries("metrics")
    rows = [(name, label, amount) for name, label, amount in conn.execute(sql["totals"])]
    _totals(rows, samples)
    _runs(conn.execute(sql["open_runs"]).fetchall(), samples)
    samples.put("gleaner_oldest_unchunked_page_seconds", _one(conn, "oldest_waiting") or 0.0)
    refreshed, paused, unscheduled, overdue = conn.execute(sql["sources"]).fetchone() or (0, 0, 0, 0)
    for state, count in (("refreshed", refreshed), ("paused", paused), ("unscheduled", unscheduled)):
        samples.put("gleaner_sources", count, state)
    samples.put("gleaner_sources_overdue", overdue)
    tenants, spent = conn.execute(sql["tenants"]).fetchone() or (0, 0)
    samples.put("gleaner_tenants", tenants)
    samples.put("gleaner_tenants_over_quota", spent)
    for table, size in conn.execute(sql["sizes"]):
        samples.put("gleaner_table_bytes", size, table)
    samples.put("gleaner_database_bytes", _one(conn, "database_size"))
    if capacity:
        samples.put("gleaner_database_capacity_bytes", capacity)
    samples.put("gleaner_schema_version", _one(conn, "schema_version"))
    _check(conn.execute(sql["check"]).fetchone(), samples)
    samples.put("gleaner_collect_seconds", time.monotonic() - began)


def _totals(rows: list[tuple[str, str, float]], samples: Samples) -> None:
    for counter, outcomes in _FROM_ZERO.items():
        for outcome in outcomes:
            samples.put(counter, 0, outcome)
    for metric in METRICS:
        if metric.kind == "counter" and not metric.labels:
            samples.put(metric.name, 0)
    for state in STATES:
        samples.put("gleaner_pages", 0, state)
    failures: dict[Labels, float] = {}
    by_name = {metric.name: metric for metric in METRICS}
    for name, label, amount in rows:
        labels = tuple(label.split("/", 1))
        if name == "dead_letters":
            failures[labels] = amount
        elif name.endswith("_bucket"):
            kind, _, bound = label.rpartition("/")
            samples.buckets[f"gleaner_{name.removesuffix('_bucket')}"][(kind,)][bound] = amount
        elif name.endswith("_sum"):
            samples.put(f"gleaner_{name.removesuffix('_sum')}", amount, label)
        elif metric_of := by_name.get(f"gleaner_{name}") or by_name.get(f"gleaner_{name}_total"):
            count = len(metric_of.labels)
            samples.put(metric_of.name, amount, *(labels if count == 2 else (label,) * count))
    _failures(failures, samples)
    pages = samples.values["gleaner_pages"]
    samples.put("gleaner_gap", pages["fetched",] + pages["completed",], "pages_not_chunked")
    waiting = samples.values["gleaner_chunks_without_vector"]
    for (model,) in samples.values["gleaner_chunks"]:
        waiting.setdefault((model,), 0.0)
    samples.put("gleaner_gap", sum(waiting.values()), "chunks_without_vector")


def _failures(found: Mapping[Labels, float], samples: Samples) -> None:
    """The commonest kinds by name, the others as one kind of their stage."""
    ranked = sorted(
        ((count, labels) for labels, count in found.items() if count), key=lambda entry: (-entry[0], entry[1])
    )
    told = samples.values["gleaner_dead_letters"]
    for place, (count, (stage, reason)) in enumerate(ranked):
        labels = (stage, reason if place < MOST_KINDS_OF_FAILURE else "other")
        told[labels] = told.get(labels, 0.0) + count


def _runs(rows: list[tuple[str, int, float]], samples: Samples) -> None:
    found = {kind: (count, oldest) for kind, count, oldest in rows}
    for kind in RUN_KINDS:
        count, oldest = found.get(kind, (0, 0.0))
        samples.put("gleaner_active_runs", count, kind)
        samples.put("gleaner_oldest_active_run_seconds", oldest, kind)


def _check(row: tuple[float, dict[str, Any]] | None, samples: Samples) -> None:
    samples.put("gleaner_check_timestamp_seconds", row[0] if row else 0)
    if row is None:
        return
    report = row[1]
    samples.put("gleaner_duplicates", report["duplicates"])
    samples.put("gleaner_constraint_ok", report["constraint"] == CONSTRAINT)
    samples.put("gleaner_invalid_indexes", len(report["invalid_indexes"]))
    samples.put("gleaner_disagreeing_fences", report["disagreeing_fences"])
    samples.put("gleaner_dead_letters_given_up", report["given_up"])


def _one(conn: psycopg.Connection, query: str) -> Any:
    row = conn.execute(queries("metrics")[query]).fetchone()
    return None if row is None else row[0]


def _histogram(
    metric: Metric, buckets: Mapping[Labels, Mapping[str, float]], sums: Mapping[Labels, float]
) -> Iterator[Family]:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for label in RUN_KINDS if metric.labels == ("kind",) else STAGES:
        counts = buckets.get((label,), {})
        cumulated, told = 0.0, []
        for bound in (*map(str, BOUNDS), "+Inf"):
            cumulated += counts.get(bound, 0.0)
            told.append((bound, cumulated))
        family.add_metric([label], buckets=told, sum_value=sums.get((label,), 0.0))
    yield family


class _Collected:
    """What prometheus_client takes for a registry."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Family]:
        return self._samples.families()
