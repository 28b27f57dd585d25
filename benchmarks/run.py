"""Measures what Gleaner promises, for real, and prints a table. Nothing of it touches the project's own data.

python -m benchmarks.run [NAME ...]

Names: start, sample, pages, stages, model, speed, pace, memory, search, defer, views, costs, volume, peers, queue,
fanout, cluster, workers, metrics, adopt, database. Without: all but costs, and cluster and workers only where there is
redis-server.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import adopt, crawl, database, defer, orchestration, search, side_by_side, stages, views, watch
from benchmarks.cpu import cpu_below, cpu_of
from include.gleaner.local.stack import Stack, running
from include.gleaner.pools import LOAD, PROCESS
from tests.support.debian_docs import fetch_docs
from tests.support.embedding_server import API_KEY, EmbeddingServer
from tests.support.static_site import StaticSite

DAG = "ingest_website"
PAGES = 200
ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Result:
    """A DAG run that is over, in seconds and counts."""

    duration: float
    instances: int
    peak: dict[str, int]  # task instances running at once, by pool
    stages: dict[str, float]


def main(names: list[str]) -> int:
    """Run the named measurements; 0 when every promise is kept."""
    known = {
        "start": start,
        "sample": sample,
        "pages": pages,
        "stages": stages.stages,
        "model": stages.local_model,
        "speed": crawl.speed,
        "pace": crawl.pace,
        "memory": crawl.memory,
        "search": search.index,
        "defer": defer.defer,
        "views": views.views,
        "costs": side_by_side.alone,
        "volume": side_by_side.volume,
        "peers": side_by_side.side_by_side,
        "queue": orchestration.queue,
        "fanout": orchestration.fanout,
        "cluster": orchestration.cluster,
        "workers": orchestration.workers,
        "metrics": watch.metrics,
        "adopt": adopt.adoption,
        "database": database.operations,
    }
    unknown = sorted(set(names) - set(known))
    if unknown:
        sys.stderr.write(f"no such measurement: {', '.join(unknown)}; there are {', '.join(known)}\n")
        return 2
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, load before: {os.getloadavg()[0]:.1f}\n")
    kept = True
    rows = ["| What | Measured | Promise |", "| --- | --- | --- |"]
    left_out = {"costs"} | (set() if orchestration.has_redis() else {"cluster", "workers"})
    for name in names or [name for name in known if name not in left_out]:
        for what, measured, promise, fits in known[name]():
            rows.append(f"| {what} | {measured} | {promise} |")
            kept = kept and fits
            print(rows[-1], "" if fits else "  <-- not kept", flush=True)
    print("\n" + "\n".join(rows))
    return 0 if kept else 1


Row = tuple[str, str, str, bool]


def start() -> Iterator[Row]:
    """From the start of the stack to the DAG run triggered, with a new folder and with one that is there."""
    first: list[float] = []
    after: list[float] = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            for found in (first, after):
                began = time.monotonic()
                with running(Path(folder) / "data", sample=True) as stack:
                    _trigger(stack, {"tenant": "bench", "url": stack.website_url})
                    found.append(time.monotonic() - began)
    for name, found, limit in (("first", first, 40), ("after", after, 25)):
        spent = statistics.median(found)
        yield f"Start to triggered, {name}", f"{spent:.1f} s (median of {ROUNDS})", f"≤ {limit} s", spent <= limit


def sample() -> Iterator[Row]:
    """The sample website with the local model."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "data", sample=True) as stack:
        result = _ingest(stack, {"tenant": "bench", "url": stack.website_url, "delay_seconds": 0})
        chunks = _count(stack, "SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NOT NULL")
    yield f"Sample website, {chunks} chunks embedded", f"{result.duration:.1f} s", "≤ 60 s", result.duration <= 60


def pages() -> Iterator[Row]:
    """200 pages of the PostgreSQL manual, an endpoint that takes 50 ms a call; then the same again, unchanged."""
    with tempfile.TemporaryDirectory() as folder, EmbeddingServer(latency_ms=50) as endpoint:
        docs = fetch_docs("postgresql-doc-15", _made(Path(folder) / "docs"))
        connection = (
            f'{{"conn_type": "generic", "host": "{endpoint.url}", "password": "{API_KEY}",'
            ' "extra": {"model": "text-embedding-3-small", "dimensions": 1536}}'
        )
        with StaticSite(docs / "usr/share/doc/postgresql-doc-15/html") as site, _environment(
            GLEANER_LOCAL_HOSTS=site.host, AIRFLOW_CONN_GLEANER_OPENAI=connection
        ), running(Path(folder) / "data", sample=False) as stack:  # fmt: skip
            conf = {"tenant": "bench", "url": f"{site.url}index.html", "delay_seconds": 0, "max_pages": PAGES}
            before = _cpu_seconds(stack)
            first = _ingest(stack, conf)
            spent = _cpu_seconds(stack) - before
            chunks = _count(stack, "SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NOT NULL")
            loaded = _count(stack, "SELECT count(DISTINCT source_id) FROM gleaner.tenant_knowledge")
            calls, written = endpoint.stats().calls, _written(stack)
            again = _ingest(stack, conf)
            new_calls, new_written = endpoint.stats().calls - calls, _written(stack) - written
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in first.stages.items())
    yield (
        f"{loaded} pages, {chunks} chunks, {calls} calls ({stages})",
        f"{first.duration:.1f} s",
        "≤ 30 s",
        first.duration <= 30 and loaded >= 0.95 * PAGES,
    )
    yield "CPU of the whole stack meanwhile", f"{spent:.0f} CPU-s", "", True
    yield "Task instances", str(first.instances), "≤ 20", first.instances <= 20
    slots = {PROCESS.name: PROCESS.slots, LOAD.name: LOAD.slots}
    fits = all(first.peak[name] <= slots[name] for name in first.peak)
    yield "Peak running, by pool", str(first.peak), f"≤ {slots}", fits
    yield "The same, unchanged", f"{again.duration:.1f} s", "≤ 12 s", again.duration <= 12
    yield "Embedding calls of it", str(new_calls), "0", new_calls == 0
    yield "Rows it wrote in tenant_knowledge", str(new_written), "0", new_written == 0


def _trigger(stack: Stack, conf: Mapping[str, Any]) -> str:
    api = stack.airflow.api
    stack.airflow.wait(lambda: api.has_dag(DAG), "the DAG")
    api.unpause(DAG)
    return api.trigger(DAG, conf)


def _ingest(stack: Stack, conf: Mapping[str, Any]) -> Result:
    run_id = _trigger(stack, conf)
    api = stack.airflow.api
    while (run := api.dag_run(DAG, run_id))["state"] not in ("success", "failed"):
        time.sleep(0.2)
    if run["state"] != "success":
        raise RuntimeError(f"{run_id} failed")
    tasks = [task for task in api.task_instances(DAG, run_id) if task["start_date"] and task["end_date"]]
    spans: dict[str, list[tuple[datetime, datetime]]] = {}
    pooled: dict[str, list[tuple[datetime, int]]] = {}
    for task in tasks:
        began, ended = datetime.fromisoformat(task["start_date"]), datetime.fromisoformat(task["end_date"])
        spans.setdefault(task["task_id"], []).append((began, ended))
        if task["pool"] in (PROCESS.name, LOAD.name):
            pooled.setdefault(task["pool"], []).extend([(began, 1), (ended, -1)])
    peak = {}
    for pool, events in pooled.items():
        running_now = peak[pool] = 0
        for _, change in sorted(events):
            running_now += change
            peak[pool] = max(peak[pool], running_now)
    return Result(
        duration=(datetime.fromisoformat(run["end_date"]) - datetime.fromisoformat(run["start_date"])).total_seconds(),
        instances=len(api.task_instances(DAG, run_id)),
        peak=peak,
        stages={
            name: (max(end for _, end in found) - min(begin for begin, _ in found)).total_seconds()
            for name, found in spans.items()
        },
    )


def _count(stack: Stack, query: str) -> int:
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        row = conn.execute(query.encode()).fetchone()
        return int(row[0]) if row else 0


def _written(stack: Stack) -> int:
    """Rows inserted, updated and deleted in tenant_knowledge since it was made."""
    time.sleep(1.5)  # the statistics are sent when a session has been idle for a second
    return _count(
        stack,
        "SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables"
        " WHERE schemaname = 'gleaner' AND relname = 'tenant_knowledge'",
    )


def _cpu_seconds(stack: Stack) -> float:
    """CPU seconds of this process and of all that runs below it, those that have ended included."""
    return cpu_below(os.getpid()) + cpu_of(os.getpid())


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
