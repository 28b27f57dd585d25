"""What Airflow makes of it: queue depth, its share of the time, one task per page instead of batches, more workers.

The run is watched in Airflow's own database, four times a second; the curves are drawn to benchmarks/queue-*.svg.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from benchmarks.cpu import cpu_below
from benchmarks.drawing import Sample, draw
from include.gleaner.local.airflow import DATABASE
from include.gleaner.local.cluster import Cluster
from include.gleaner.local.stack import Stack, running
from include.gleaner.ops.migrate import migrate
from include.gleaner.pools import CRAWL, LOAD, PROCESS
from tests.support.redis_server import RedisServer

Row = tuple[str, str, str, bool]

ROOT = Path(__file__).parents[1]
DAG = "ingest_website"
SLOTS = CRAWL.slots + PROCESS.slots + LOAD.slots
ROUNDS = 3
LONG_CALL_MS = 500  # of the endpoint, where the work is bound by it
SLOW_PAGES = 400  # of it: a minute and a half of waiting with one worker
# One call under way per task, and so few texts in it that waiting is nearly all there is: then the number of workers
# decides. With ten times as many texts in a call, two cores are busy with the texts, and it is their number that does.
ONE_SMALL_CALL: Mapping[str, Any] = {"concurrency": 1, "max_inputs": 4}


@dataclass(kw_only=True)
class Watched:
    """A run that is over, and what was going on meanwhile."""

    seconds: float
    cpu: float  # of the stack
    instances: int
    samples: list[Sample] = field(default_factory=list)

    @property
    def most_running(self) -> int:
        return max(sample[1] for sample in self.samples)

    @property
    def most_queued(self) -> int:
        return max(sample[2] for sample in self.samples)


def queue() -> Iterator[Row]:
    """200 and 5,000 pages: time, instances, queue depth, and how much of the time is Airflow's.

    In turns, each the median of three, with Airflow and without it, as many tasks at once: each in a stack of its own,
    because what comes second in the same takes longer, while Postgres still writes and vacuums what came first.
    """
    for pages, most_share in ((200, None), (5_000, 0.1)):
        runs, alones = [], []
        for _ in range(ROUNDS):
            with _stack(pages) as (stack, url):
                runs.append(_ingest(stack, url, pages))
            with _stack(pages) as (stack, url):
                processes = {pool.name: pool.slots for pool in stack.airflow.pools}[PROCESS.name]
                alones.append(_without_airflow(stack, pages, processes))
        watched = sorted(runs, key=lambda run: run.seconds)[ROUNDS // 2]
        alone = sorted(alones)[ROUNDS // 2]
        draw(ROOT / f"benchmarks/queue-{pages}.svg", watched.samples, pages)
        share = watched.seconds - alone
        limit = "≤ 20 s" if most_share is None else ""
        yield (
            f"{pages} pages through Airflow, the median of {ROUNDS}",
            f"{watched.seconds:.1f} s ({', '.join(f'{run.seconds:.1f}' for run in runs)})",
            limit,
            (most_share is not None or watched.seconds <= 20),
        )
        most = 12 if most_share is None else 1_000
        yield "Task instances of it", str(watched.instances), f"≤ {most}", watched.instances <= most
        peak = f"{watched.most_running} running, {watched.most_queued} queued"
        yield (
            f"Peak of it, {SLOTS} slots",
            peak,
            f"≤ {SLOTS}, ≤ 10",
            (watched.most_running <= SLOTS and watched.most_queued <= 10),
        )
        told = (
            f"{share:.1f} s ({share / watched.seconds:.1%}); the stages alone take {alone:.1f} s"
            f" ({', '.join(f'{seconds:.1f}' for seconds in alones)}), {processes} at once"
        )
        promise = "≤ 15 s" if most_share is None else f"≤ {most_share:.0%}"
        kept = share <= 15 if most_share is None else share <= most_share * watched.seconds
        yield "Airflow's share of it", told, promise, kept


def fanout() -> Iterator[Row]:
    """The same 200 pages in batches, and with one task per page."""
    with _stack(200) as (stack, url):
        batches = _ingest(stack, url, 200)
        single = _ingest(stack, url, 200, tenant="single", batch_size=1)
    for name, run in (("batches", batches), ("one task per page", single)):
        told = f"{run.seconds:.1f} s, {run.cpu:.0f} CPU-s, {run.instances} instances, {run.most_queued} queued at most"
        yield f"200 pages, {name}", told, "", True
    ratio = single.cpu / batches.cpu
    yield "CPU of one task per page, against batches", f"{ratio:.1f} times", "≥ 5 times", ratio >= 5


def cluster() -> Iterator[Row]:
    """LocalExecutor against three Celery workers."""
    with _stack(1_000) as (stack, url):
        local = _ingest(stack, url, 1_000)
    with _redis() as redis, _stack(1_000, cluster=Cluster(broker_url=redis.url)) as (stack, url):
        celery = _ingest(stack, url, 1_000)
    ratio = celery.seconds / local.seconds
    yield "1,000 pages, LocalExecutor", f"{local.seconds:.1f} s", "", True
    yield "1,000 pages, three Celery workers", f"{celery.seconds:.1f} s, {ratio:.2f} times", "≤ 1.5 times", ratio <= 1.5


def workers() -> Iterator[Row]:
    """One Celery worker against three where the endpoint is slow: each has two slots, each slot one call under way."""
    seconds = {}
    for number in (1, 3):
        slots = {"GLEANER_LOAD_SLOTS": str(2 * number)}
        with _redis() as redis:
            own = Cluster(broker_url=redis.url, workers=number, concurrency=2)
            with _stack(SLOW_PAGES, cluster=own, latency=LONG_CALL_MS, extra=ONE_SMALL_CALL, **slots) as (stack, url):
                _resize(stack, LOAD.name, 2 * number)  # the pool was made by this process, with its own environment
                _ingest(stack, url, SLOW_PAGES)
                seconds[number] = _load_seconds(stack)
                calls = _endpoint_calls(stack)
        waiting = calls * LONG_CALL_MS / 1_000 / (2 * number)
        yield (
            f"Load of {SLOW_PAGES} pages, {LONG_CALL_MS} ms a call, {number} Celery workers",
            f"{seconds[number]:.1f} s, of which {waiting:.1f} s are waited for {calls} calls", "", True,
        )  # fmt: skip
    gain = seconds[1] / seconds[3]
    yield "The same, one worker against three", f"{gain:.2f} times", "≥ 2.4 times", gain >= 2.4


def _resize(stack: Stack, pool: str, slots: int) -> None:
    body = {"pool": pool, "slots": slots, "include_deferred": False}
    stack.airflow.api._call("PATCH", f"/pools/{pool}?update_mask=slots", body)


@contextmanager
def _redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as redis:
        yield redis


def _endpoint_calls(stack: Stack) -> int:
    with psycopg.connect(stack.dsn) as conn:
        row = conn.execute("SELECT sum(requests)::int FROM gleaner.batch_report WHERE stage = 'load'").fetchone()
    return int(row[0]) if row else 0


def _load_seconds(stack: Stack) -> float:
    with psycopg.connect(stack.postgres.dsn(DATABASE), autocommit=True) as conn:
        row = conn.execute(
            "SELECT extract(epoch FROM max(end_date) - min(start_date))::float8 FROM task_instance"
            " WHERE dag_id = %s AND task_id = 'load'",
            (DAG,),
        ).fetchone()
    return float(row[0]) if row else 0.0


@contextmanager
def _stack(
    pages: int,
    *,
    cluster: Cluster | None = None,
    latency: int = 50,
    extra: Mapping[str, Any] | None = None,
    **environment: str,
) -> Iterator[tuple[Stack, str]]:
    """A stack, a website of so many pages, and an endpoint, all in processes of their own."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        site = _server(cleanup, ["-m", "benchmarks.site_server", str(pages), "8", "20"])
        endpoint = _server(cleanup, ["-m", "benchmarks.endpoint", str(latency)])
        fields = {"conn_type": "generic", "host": f"http://127.0.0.1:{endpoint}/v1", "password": "x",
                  "extra": {"model": "text-embedding-3-small", "dimensions": 1_536, **(extra or {})}}  # fmt: skip
        # Python's default: with it set, each task would compile Gleaner's code anew.
        values = {**environment, "PYTHONDONTWRITEBYTECODE": "", "GLEANER_LOCAL_HOSTS": f"127.0.0.1:{site}",
                  "AIRFLOW_CONN_GLEANER_OPENAI": json.dumps(fields)}  # fmt: skip
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        cleanup.callback(_restore, before)
        stack = cleanup.enter_context(running(folder / "data", sample=False, cluster=cluster))
        stack.airflow.wait(lambda: stack.airflow.api.has_dag(DAG), "the DAG")
        stack.airflow.api.unpause(DAG)
        yield stack, f"http://127.0.0.1:{site}/"


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _server(cleanup: ExitStack, command: list[str]) -> int:
    child = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    cleanup.callback(child.wait)
    cleanup.callback(child.stdin.close)
    return int(child.stdout.readline())


def _ingest(stack: Stack, url: str, pages: int, tenant: str = "bench", **params: Any) -> Watched:
    api = stack.airflow.api
    conf = {"tenant": tenant, "url": url, "delay_seconds": 0, "max_pages": pages, "max_depth": 100, **params}
    before = cpu_below(os.getpid())
    run_id = api.trigger(DAG, conf)
    samples = _watch(stack, run_id)
    run = api.dag_run(DAG, run_id)
    if run["state"] != "success":
        raise RuntimeError(f"{run_id} failed")
    seconds = (datetime.fromisoformat(run["end_date"]) - datetime.fromisoformat(run["start_date"])).total_seconds()
    instances = len(api.task_instances(DAG, run_id))
    return Watched(seconds=seconds, cpu=cpu_below(os.getpid()) - before, instances=instances, samples=samples)


def _watch(stack: Stack, run_id: str) -> list[Sample]:
    """Until the run is over; asked of the database, because each request of the API would take time from the run."""
    samples: list[Sample] = []
    began = time.monotonic()
    over = "SELECT 1 FROM dag_run WHERE dag_id = %s AND run_id = %s AND state IN ('success', 'failed')"
    with psycopg.connect(stack.postgres.dsn(DATABASE), autocommit=True) as conn:
        while conn.execute(over, (DAG, run_id)).fetchone() is None:
            time.sleep(0.25)
            row = conn.execute(
                "SELECT count(*) FILTER (WHERE state = 'running'), count(*) FILTER (WHERE state = 'queued')"
                " FROM task_instance WHERE dag_id = %s",
                (DAG,),
            ).fetchone()
            if row is not None:
                samples.append((time.monotonic() - began, int(row[0]), int(row[1])))
    return samples


def _without_airflow(stack: Stack, pages: int, processes: int) -> float:
    """Seconds of the same pages through the same functions: same Postgres and endpoint, no Airflow beside."""
    stack.airflow.stop()
    stack.postgres.drop_database("alone")
    stack.postgres.create_database("alone")
    dsn = stack.postgres.dsn("alone")
    migrate(dsn)
    parts = conninfo_to_dict(dsn)
    connection = {"conn_type": "postgres", "host": parts["host"], "port": int(str(parts["port"])),
                  "login": parts["user"], "password": parts["password"], "schema": "alone"}  # fmt: skip
    with ExitStack() as cleanup:
        site = _server(cleanup, ["-m", "benchmarks.site_server", str(pages), "8", "20"])
        home = cleanup.enter_context(tempfile.TemporaryDirectory())
        environment = {
            **os.environ, "AIRFLOW_CONN_GLEANER_POSTGRES": json.dumps(connection), "AIRFLOW_HOME": home,
            "GLEANER_LOCAL_HOSTS": f"127.0.0.1:{site}", "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "OPENBLAS_NUM_THREADS": "1",
        }  # fmt: skip
        url = f"http://127.0.0.1:{site}/"
        command = [sys.executable, "-m", "benchmarks.ingest_once", url, "alone", str(pages), str(processes)]
        out = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    told = json.loads(out.rpartition("RESULT")[2])
    if told["pages"] != pages:
        raise RuntimeError(f"{told['pages']} of {pages} pages were taken in without Airflow")
    return float(told["seconds"])


def has_redis() -> bool:
    """Whether `cluster` and `workers` can run here."""
    return shutil.which("redis-server") is not None
