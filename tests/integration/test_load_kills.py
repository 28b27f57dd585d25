"""A load that is killed anywhere, or whose server is, ends with exactly the rows of a calm one when it is run again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from include.gleaner import pipeline
from include.gleaner.local.postgres import EmbeddedPostgres, standalone
from include.gleaner.ops.migrate import migrate
from tests.support.embedding_server import EmbeddingServer
from tests.support.tenant import Tenant
from tests.support.website import TestWebsite, page

ROOT = Path(__file__).parents[2]
INPUTS = 8  # per request
REQUESTS = 4  # under way at once
CHUNKS_PER_GROUP = 20  # some ten groups, of three requests each
UNSTORED = INPUTS * (REQUESTS + 1)  # those, and the one that is being stored
KILLS = 20

# Forks a child for each line, which loads the batch; tells its number, then how it ended. Modules are loaded before.
FORKER = """
import json, os, sys
from include.gleaner import pipeline
from include.gleaner.config import EmbedPolicy
import include.gleaner.pipeline.loading, include.gleaner.pipeline.connections, include.gleaner.embed.client
from include.gleaner.pipeline import grouping
from include.gleaner.chunk.encodings import counter
from airflow.providers.postgres.hooks.postgres import PostgresHook
counter("cl100k_base")
real = EmbedPolicy.__init__
EmbedPolicy.__init__ = lambda self, **values: real(self, **{**values, "max_inputs": %d, "concurrency": %d})
grouping.CHUNKS_PER_GROUP = %d
params, batch = json.loads(sys.argv[1]), json.loads(sys.argv[2])
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            pipeline.load_chunks(params, "run-x", batch, int(line))
        except BaseException:
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
""" % (INPUTS, REQUESTS, CHUNKS_PER_GROUP)  # noqa: UP031 - braces belong to the script

ROWS = (
    "SELECT source_id, chunk_type, chunk_index, embedding_model, section_title, full_text, tldr, language, token_count,"
    " word_count, text_hash, content_hash, embedding::text, search_vector::text, metadata::text"
    " FROM gleaner.tenant_knowledge ORDER BY 1, 2, 3"
)


def site_of(pages: int) -> dict[str, Any]:
    """Pages of several chunks each, no two alike."""
    chance = random.Random(pages)
    words = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfglmnrst"]
    texts = {
        f"/p{number}": page(" ".join(f"{' '.join(chance.choices(words, k=11))}." for _ in range(90)))
        for number in range(pages)
    }
    return {"/": page("Welcome to the home page of the example company.", *texts)} | texts


def prepared(tenant: Tenant) -> tuple[dict[str, Any], dict[str, Any]]:
    """Crawled, processed and surveyed as run "run-x"; its Params and the one batch to load."""
    tenant.site.routes = site_of(24)
    params = tenant.params(batch_size=500)
    pipeline.crawl_website(params, "run-x")
    for batch in pipeline.plan_batches(params, "run-x"):
        pipeline.process_pages(params, "run-x", batch, 1)
    # All pages in one batch, whatever the number of slots would make of them.
    first, *_, last = pipeline.survey_site(params, "run-x")
    return params, {**first, "of": 1, "last_page": last["last_page"], "pages": 25}


def unload(tenant: Tenant) -> None:
    """As before the load."""
    for table in ("tenant_knowledge", "knowledge_generation", "pending_embedding", "embedding_usage"):
        tenant.conn.execute(f"DELETE FROM gleaner.{table}".encode())
    tenant.conn.execute("DELETE FROM gleaner.batch_report WHERE stage = 'load'")
    tenant.conn.execute("UPDATE gleaner.website_page SET state = 'completed' WHERE state = 'chunked'")


@contextmanager
def forker(params: dict[str, Any], batch: dict[str, Any]) -> Iterator[Callable[[int], tuple[int, Callable[[], int]]]]:
    """Starts loads: (process id, a wait for its exit code)."""
    process = subprocess.Popen(
        [sys.executable, "-c", FORKER, json.dumps(params), json.dumps(batch)], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    def told() -> int:
        while not (line := stdout.readline().strip()).lstrip("-").isdigit():  # a log line
            assert line or process.poll() is None
        return int(line)

    def start(try_number: int) -> tuple[int, Callable[[], int]]:
        stdin.write(f"{try_number}\n")
        stdin.flush()
        return told(), told

    try:
        while stdout.readline().strip() != "ready":
            assert process.poll() is None
        yield start
    finally:
        stdin.close()
        process.wait(30)
        stdout.close()


def wait_for_inputs(tenant: Tenant, pid: int, inputs: int) -> None:
    """Until the endpoint has answered so many: a moment of the load, however fast the machine is. Not past its end."""
    while tenant.endpoint.stats().inputs < inputs and Path(f"/proc/{pid}").exists():
        time.sleep(0.002)


def test_killed_at_twenty_points_and_run_again(tenant: Tenant) -> None:
    params, batch = prepared(tenant)
    tenant.endpoint.configure(latency_ms=40)
    chance = random.Random(2)
    with forker(params, batch) as start:
        assert start(1)[1]() == 0
        expected = tenant.rows(ROWS)
        total = tenant.endpoint.stats().inputs
        assert len(expected) == total > 2 * UNSTORED
        cut = halfway = 0
        for number in range(KILLS):
            unload(tenant)
            before = tenant.endpoint.stats().inputs
            pid, ended = start(1)
            wait_for_inputs(tenant, pid, before + total * number // KILLS)
            time.sleep(0.02 * chance.random())
            with suppress(ProcessLookupError):  # it was faster
                os.kill(pid, signal.SIGKILL)
            cut += ended() == -signal.SIGKILL
            found = tenant.rows(ROWS)
            pages = {row[0] for row in found}
            assert found == [row for row in expected if row[0] in pages], number  # of a page, all rows or none
            halfway += 0 < len(found) < len(expected)
            assert start(2)[1]() == 0
            assert tenant.rows(ROWS) == expected, number
            assert set(tenant.states().values()) == {"chunked"}
            assert tenant.rows("SELECT count(*) FROM gleaner.pending_embedding") == [(0,)]
            time.sleep(0.1)  # what was under way is still answered, to nobody
            assert total <= tenant.endpoint.stats().inputs - before <= total + UNSTORED, number
        assert cut > KILLS * 0.7
        assert halfway > 2, "no kill came between two groups"


@pytest.fixture
def durable(
    tmp_path_factory: pytest.TempPathFactory, endpoint: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[EmbeddedPostgres, Tenant]]:
    """A server of the test's own, which writes to the disk as it should."""
    server, processes = standalone(tmp_path_factory.mktemp("durable"))
    try:
        server.start()
        server.create_database("knowledge")
        migrate(server.dsn("knowledge"))
        parts = conninfo_to_dict(server.dsn("knowledge"))
        extra = {"model": "text-embedding-3-small", "dimensions": 1_536}
        monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(
            {"conn_type": "generic", "host": endpoint.url, "password": "sk-test-0123456789abcdef", "extra": extra}
        ))  # fmt: skip
        monkeypatch.setenv("AIRFLOW_CONN_GLEANER_POSTGRES", json.dumps(
            {"conn_type": "postgres", "host": parts["host"], "port": int(str(parts["port"])), "login": parts["user"],
             "password": parts["password"], "schema": "knowledge"}
        ))  # fmt: skip
        with TestWebsite() as site, psycopg.connect(server.dsn("knowledge"), autocommit=True) as conn:
            monkeypatch.setenv("GLEANER_LOCAL_HOSTS", site.host)
            yield server, Tenant(site=site, endpoint=endpoint, conn=conn)
    finally:
        processes.close()


def test_the_server_is_killed_in_the_middle_and_the_load_run_again(
    durable: tuple[EmbeddedPostgres, Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, tenant = durable
    params, batch = prepared(tenant)
    tenant.endpoint.configure(latency_ms=40)
    with forker(params, batch) as start:
        assert start(1)[1]() == 0
        expected = tenant.rows(ROWS)
        total = tenant.endpoint.stats().inputs
    failed = 0
    for share in (0.2, 0.5, 0.9):
        unload(tenant)
        before = tenant.endpoint.stats().inputs
        backends = [pid for (pid,) in tenant.rows("SELECT pid FROM pg_stat_activity")]
        with forker(params, batch) as start:
            pid, ended = start(1)
            wait_for_inputs(tenant, pid, before + int(total * share))
            backends += [
                pid for (pid,) in tenant.rows("SELECT pid FROM pg_stat_activity WHERE pid <> ALL(%s)", backends)
            ]
            kill_server(server, backends)
            failed += ended() == 1
        server.start()
        monkeypatch.setenv("AIRFLOW_CONN_GLEANER_POSTGRES", moved(server))
        tenant.conn.close()
        tenant.conn = psycopg.connect(server.dsn("knowledge"), autocommit=True)
        with forker(params, batch) as start:
            assert start(2)[1]() == 0
        assert tenant.rows(ROWS) == expected
        assert set(tenant.states().values()) == {"chunked"}
        assert total <= tenant.endpoint.stats().inputs - before <= total + UNSTORED
    tenant.conn.close()
    assert failed >= 2, "the load was over before the server was killed; the test has shown too little"


def kill_server(server: EmbeddedPostgres, backends: list[int]) -> None:
    """Postmaster and backends at once, as when the power goes."""
    postmaster = int((server.folder / "data" / "postmaster.pid").read_text("ascii").split()[0])
    for pid in (postmaster, *backends):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def moved(server: EmbeddedPostgres) -> str:
    """The connection again: the server may have come up at another port."""
    told = json.loads(os.environ["AIRFLOW_CONN_GLEANER_POSTGRES"])
    return json.dumps({**told, "port": server.port})
