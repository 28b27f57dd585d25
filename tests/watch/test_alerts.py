"""Each alert fires in a real Prometheus when what it is about happens, and ends when that is mended."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
import yaml

from include.gleaner.config import local_policy
from include.gleaner.errors import KnowledgeDamagedError
from include.gleaner.local.airflow import VIEWER
from include.gleaner.local.stack import Stack
from include.gleaner.ops.tenants import set_quota
from include.gleaner.pipeline import maintaining
from include.gleaner.pipeline.accounting import BatchTally
from include.gleaner.shared.bucket import Limits
from include.gleaner.shared.gate import SharedGate
from include.gleaner.shared.state import PostgresState
from include.gleaner.sql import queries
from tests.support.prometheus_server import RULES, PrometheusServer, tool
from tests.watch.conftest import TOKEN

DAG = "ingest_website"
TENANT = "acme"
PATIENCE = 60.0
ALL = {rule["alert"] for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]}
OF_THE_SERVERS = {"GleanerDown", "GleanerDatabaseUnreachable"}  # one hides all the others


class Operator:
    """Makes trouble, and mends it."""

    def __init__(self, stack: Stack, conn: psycopg.Connection) -> None:
        self.stack = stack
        self.conn = conn
        self.api = stack.airflow.api

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.conn.execute(query.encode(), values).fetchall()

    def do(self, query: str, *values: Any) -> None:
        self.conn.execute(query.encode(), values)

    def ingest(self) -> None:
        run_id = self.api.trigger(DAG, {"tenant": TENANT, "url": self.stack.website_url, "delay_seconds": 0})
        wait(lambda: self.api.dag_run(DAG, run_id)["state"] == "success", "the run", 300)

    def look_over(self) -> None:
        with suppress(KnowledgeDamagedError):
            maintaining.look_over(self.conn, local_policy({}))

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        self.api._call(method, path, body)


def wait(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(requests.Timeout):  # a busy machine
            if condition():
                return
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def expect(prometheus: PrometheusServer, alerts: set[str]) -> dict[str, dict[str, Any]]:
    """These fire, and no other; as they were told then."""
    deadline = time.monotonic() + PATIENCE
    while set(firing := prometheus.firing()) != alerts:
        assert time.monotonic() < deadline, {"missing": alerts - set(firing), "unexpected": set(firing) - alerts}
        time.sleep(0.3)
    return firing


@pytest.fixture(scope="module")
def operator(stack: Stack) -> Iterator[Operator]:
    with psycopg.connect(stack.dsn, autocommit=True, prepare_threshold=None) as conn:
        found = Operator(stack, conn)
        found.api.unpause(DAG)
        found.ingest()
        found.look_over()
        yield found


@pytest.fixture(scope="module")
def prometheus(
    operator: Operator, token_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrometheusServer]:
    folder = tmp_path_factory.mktemp("prometheus")
    with PrometheusServer(folder, operator.stack.airflow.url, token_file) as server:
        yield server


@contextmanager
def ever_more(operator: Operator) -> Iterator[None]:
    """Pages that are fetched and not loaded, one more each half second; an endpoint that says 429."""
    pages = [
        row[0] for row in operator.rows("SELECT page_id FROM gleaner.website_page WHERE state = 'chunked' ORDER BY 1")
    ]
    ((job_id,),) = operator.rows("SELECT max(job_id) FROM gleaner.crawl_job")
    stop = threading.Event()

    def work() -> None:
        with psycopg.connect(operator.stack.dsn, autocommit=True) as conn:
            tally = BatchTally(tenant_id=TENANT, job_id=job_id, stage="load", batch_index=900, try_number=1)
            tally.start(conn)
            waiting = list(pages)
            while not stop.wait(0.5):
                tally.throttled += 3
                tally.save(conn)
                if waiting:
                    conn.execute(
                        "UPDATE gleaner.website_page SET state = 'completed', fetched_at = now() - interval '2 days'"
                        " WHERE page_id = %s",
                        (waiting.pop(),),
                    )

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        operator.do(
            "UPDATE gleaner.website_page SET state = 'chunked', fetched_at = now() WHERE page_id = ANY(%s)", pages
        )


def gate_of(operator: Operator) -> SharedGate:
    return SharedGate(
        PostgresState(operator.conn), endpoint="api.example.com:443/model", tenant_id=TENANT, limits=Limits(),
        probe_seconds=30,
    )  # fmt: skip


def make_trouble(operator: Operator) -> list[str]:
    """Everything that can be at once; the ids of runs that were made for it."""
    gate = gate_of(operator)
    while gate.failed() == 0:  # the breaker opens after some
        pass
    pages = [row[0] for row in operator.rows("SELECT page_id FROM gleaner.website_page ORDER BY 1 LIMIT 12")]
    for page_id in pages:
        operator.conn.execute(
            queries("load")["write_dead_letter"],
            {"tenant_id": TENANT, "stage": "process", "page_id": page_id, "item": "", "reason": "ValueError",
             "detail": "", "job_id": 1},
        )  # fmt: skip
    operator.do("UPDATE gleaner.dead_letter SET attempts = 6 WHERE page_id = %s", pages[0])
    operator.do("UPDATE gleaner.crawl_job SET started_at = now() - interval '9 days'")
    operator.do("UPDATE gleaner.website_source SET created_at = now() - interval '9 days'")
    operator.do(
        "INSERT INTO gleaner.crawl_job (tenant_id, source_id, run_id, conf, kind, started_at)"
        " SELECT tenant_id, source_id, 'dead', '{}', 'rebuild', now() - interval '5 hours' FROM gleaner.website_source"
    )
    set_quota(operator.conn, TENANT, 0)
    operator.do("ALTER TABLE gleaner.tenant_knowledge REPLICA IDENTITY DEFAULT")
    operator.do("ALTER TABLE gleaner.tenant_knowledge DROP CONSTRAINT unique_chunk_per_source")
    operator.do("INSERT INTO gleaner.tenant_knowledge SELECT * FROM gleaner.tenant_knowledge LIMIT 1")
    with pytest.raises(psycopg.errors.UniqueViolation):
        operator.do("CREATE UNIQUE INDEX CONCURRENTLY broken ON gleaner.website_page (state)")
    operator.look_over()
    operator.do("UPDATE gleaner.knowledge_check SET checked_at = now() - interval '4 hours'")
    operator.do(
        "CREATE TABLE gleaner.filler AS SELECT n, repeat(md5(n::text), 30) AS text FROM generate_series(1, 80000) AS n"
    )
    return break_airflow(operator)


def break_airflow(operator: Operator) -> list[str]:
    """A run that failed, and one whose first task gets no slot."""
    conf = {"tenant": "other", "url": operator.stack.website_url, "delay_seconds": 0}
    operator.call("PATCH", "/pools/gleaner_crawl", {"slots": 0, "pool": "gleaner_crawl", "include_deferred": False})
    failed, stuck = operator.api.trigger(DAG, conf), operator.api.trigger(DAG, conf)
    # While the scheduler begins a run, it may write over what it is set to, and then end it green without a task.
    wait(lambda: "scheduled" in {task["state"] for task in operator.api.task_instances(DAG, failed)}, "the first task")
    operator.call("PATCH", f"/dags/{DAG}/dagRuns/{failed}", {"state": "failed"})
    wait(lambda: operator.api.dag_run(DAG, failed)["state"] == "failed", "the run that was set to failed")
    return [failed, stuck]


def mend(operator: Operator, runs: list[str]) -> None:
    for run_id in runs:
        operator.call("PATCH", f"/dags/{DAG}/dagRuns/{run_id}", {"state": "failed"})
        operator.call("DELETE", f"/dags/{DAG}/dagRuns/{run_id}")
    operator.call("PATCH", "/pools/gleaner_crawl", {"slots": 4, "pool": "gleaner_crawl", "include_deferred": False})
    operator.do("DROP TABLE gleaner.filler")
    operator.do("DROP INDEX gleaner.broken")
    operator.do(
        "DELETE FROM gleaner.tenant_knowledge WHERE ctid IN (SELECT max(ctid) FROM gleaner.tenant_knowledge"
        " GROUP BY tenant_id, source_id, chunk_type, chunk_index, embedding_model HAVING count(*) > 1)"
    )
    operator.do(f"ALTER TABLE gleaner.tenant_knowledge ADD CONSTRAINT unique_chunk_per_source {maintaining.CONSTRAINT}")
    set_quota(operator.conn, TENANT, None)
    operator.do("UPDATE gleaner.crawl_job SET finished_at = now() WHERE run_id = 'dead'")
    operator.do("UPDATE gleaner.crawl_job SET started_at = now() WHERE kind = 'crawl'")
    pages = [row[0] for row in operator.rows("SELECT page_id FROM gleaner.dead_letter")]
    operator.conn.execute(
        queries("load")["resolve_dead_letters"], {"tenant_id": TENANT, "stages": ["process"], "page_ids": pages}
    )
    operator.look_over()
    gate = gate_of(operator)
    wait(lambda: gate.admit(1).closed_for == 0, "the probe")
    gate.succeeded()


def test_every_alert_fires_and_ends(operator: Operator, prometheus: PrometheusServer, token_file: Path) -> None:
    wait(lambda: prometheus.value("gleaner_up") == 1, "the first scrape")
    expect(prometheus, set())
    runs = make_trouble(operator)
    with ever_more(operator):
        told = expect(prometheus, ALL - OF_THE_SERVERS)
    mend(operator, runs)
    assert "1 chunks are stored more than once" in told["GleanerDuplicates"]["annotations"]["summary"]
    assert "api.example.com:443/model" in told["GleanerBreakerOpen"]["annotations"]["summary"]
    assert told["GleanerRunLate"]["labels"]["kind"] == "rebuild"
    expect(prometheus, set())
    token_file.write_text("another token", "utf-8")
    expect(prometheus, {"GleanerDown"})
    token_file.write_text(TOKEN, "utf-8")
    expect(prometheus, set())
    with psycopg.connect(operator.stack.postgres.dsn("postgres"), autocommit=True) as conn:
        name = psycopg.conninfo.conninfo_to_dict(operator.stack.dsn)["dbname"]
        conn.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        try:
            expect(prometheus, {"GleanerDatabaseUnreachable"})
            assert prometheus.value('gleaner_database_fault{reason="unreachable"}') == 1
        finally:
            conn.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
    expect(prometheus, set())


def test_the_exposition_of_a_real_api_server_is_what_promtool_wants(operator: Operator) -> None:
    answer = requests.get(
        f"{operator.stack.airflow.url}/gleaner/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10
    )
    assert answer.status_code == 200
    slots = {pool.name: pool.slots for pool in operator.stack.airflow.pools}["gleaner_load"]
    assert f'gleaner_pool_slots{{pool="gleaner_load",state="total"}} {slots}.0' in answer.text
    assert 'gleaner_recent_dag_runs{dag_id="ingest_website",state="success"} 1.0' in answer.text
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=answer.content, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    login = {
        "username": VIEWER,
        "password": json.loads(operator.stack.airflow.password_file.read_text("utf-8"))[VIEWER],
    }
    jwt = requests.post(f"{operator.stack.airflow.url}/auth/token", json=login, timeout=10).json()["access_token"]
    for token, status in ((jwt, 200), (jwt[:-2], 403), ("", 401)):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        told = requests.get(f"{operator.stack.airflow.url}/gleaner/metrics", headers=headers, timeout=10)
        assert told.status_code == status


def test_the_files_are_what_prometheus_takes_and_wait_as_long_as_they_say() -> None:
    subprocess.run([tool("promtool"), "check", "rules", str(RULES)], check=True)
    config = RULES.parents[1] / "prometheus.yml"
    subprocess.run([tool("promtool"), "check", "config", "--syntax-only", str(config)], check=True)
    subprocess.run([tool("promtool"), "test", "rules", "timing.yml"], cwd=Path(__file__).parent, check=True)
