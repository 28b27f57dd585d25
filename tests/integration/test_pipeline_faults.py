"""Runs in which pages, the endpoint or a task fail: what is lost, what is paid, and whether the run is red."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from include.gleaner import pipeline
from include.gleaner.errors import EmbeddingRefusedError, RunFailedError, SchemaError, SetupError, StartPageError
from include.gleaner.models import Document
from include.gleaner.pipeline import processing
from include.gleaner.process.records import document_to_json
from tests.support.articles import website
from tests.support.sessions import wait_until_alone
from tests.support.tenant import Tenant
from tests.support.website import Reply, page

ROOT = Path(__file__).parents[2]


def test_some_bad_pages_leave_the_run_green_and_many_make_it_red(tenant: Tenant) -> None:
    names = [f"page{number}" for number in range(9)]
    tenant.site.routes = website(*names)
    tenant.site.routes["/page0"] = Reply(status=500)
    report = tenant.run()
    assert report["failures"] == [{"stage": "crawl", "reason": "http_500", "count": 1}]
    for name in names[:4]:
        tenant.site.routes[f"/{name}"] = Reply(status=500)
    with pytest.raises(RunFailedError, match="4 of 10 pages failed"):
        tenant.run()
    assert len(tenant.knowledge()) == 9  # what was loaded before is still there


def test_a_document_that_postgres_refuses_costs_itself_only(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing is known any more that a page could say to have its document refused, so one is spoiled here.
    def spoiled(document: Document) -> dict[str, Any]:
        record = document_to_json(document)
        return {**record, "description": "a\0b"} if "page4" in document.title else record

    names = [f"page{number}" for number in range(9)]
    tenant.site.routes = website(*names)
    with monkeypatch.context() as patch:
        patch.setattr(processing, "document_to_json", spoiled)
        report = tenant.run()
    assert report["failures"] == [{"stage": "process", "reason": "UntranslatableCharacter", "count": 1}]
    assert {path for path, _ in tenant.knowledge()} == {"/", *(f"/{name}" for name in names if name != "page4")}
    assert tenant.run()["failures"] == []
    assert "/page4" in {path for path, _ in tenant.knowledge()}


def test_without_its_start_page_a_run_is_red_and_touches_nothing(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    tenant.run()
    before = tenant.physical()
    tenant.site.routes["/"] = Reply(status=503)
    with pytest.raises(StartPageError):
        tenant.run()
    with pytest.raises(RunFailedError, match="crawl failed"):
        pipeline.reconcile(tenant.params(), "run-2")
    assert tenant.physical() == before


def test_an_input_that_the_endpoint_refuses_costs_itself_only(tenant: Tenant) -> None:
    names = ["apples", "berries", "cherries", "figs", "grapes", "pears"]
    tenant.site.routes = website(*names)
    tenant.endpoint.configure(refuse_marker="article about figs")
    report = tenant.run()
    assert len(tenant.knowledge()) == 7
    assert report["gap"]["chunks_without_vector"] == 1
    assert [failure["stage"] for failure in report["failures"]] == ["embed"]
    assert tenant.rows("SELECT stage, reason, detail FROM gleaner.dead_letter WHERE resolved_at IS NULL") == [
        ("embed", "HTTP 400 invalid_request_error invalid_input", "")
    ]
    tenant.endpoint.configure(refuse_marker="")
    report = tenant.run()
    assert report["gap"]["chunks_without_vector"] == 0
    assert report["failures"] == []


def test_an_invalid_key_stops_the_load_at_the_first_call(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.site.routes = website("apples", "pears")
    params = tenant.params()
    pipeline.crawl_website(params, "run-x")
    (batch,) = pipeline.plan_batches(params, "run-x")
    pipeline.process_pages(params, "run-x", batch, 1)
    connection = json.loads(os.environ["AIRFLOW_CONN_GLEANER_OPENAI"])
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(connection | {"password": "sk-another"}))
    with pytest.raises(EmbeddingRefusedError) as caught:
        pipeline.load_chunks(params, "run-x", batch, 1)
    assert "the key was not accepted" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert "sk-another" not in str(caught.value)
    assert tenant.endpoint.stats().calls == 1


def test_an_endpoint_that_is_down_loses_nothing(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.site.routes = website("apples", "pears")
    connection = json.loads(os.environ["AIRFLOW_CONN_GLEANER_OPENAI"])
    working = json.dumps(connection)
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(connection | {"host": "http://127.0.0.1:9/v1"}))
    params = tenant.params()
    pipeline.crawl_website(params, "run-x")
    (batch,) = pipeline.plan_batches(params, "run-x")
    pipeline.process_pages(params, "run-x", batch, 1)
    pipeline.load_chunks(params, "run-x", batch, 1)
    report = pipeline.reconcile(params, "run-x")
    assert (report["gap"]["chunks_without_vector"], report["paused"]) == (3, 3)
    assert len(tenant.knowledge()) == 3  # found by their words
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", working)
    report = tenant.run()
    assert (report["gap"]["chunks_without_vector"], report["gap"]["pages_not_chunked"]) == (0, 0)
    assert len(tenant.knowledge()) == 3


def test_an_old_schema_is_refused_with_the_command_that_mends_it(tenant: Tenant) -> None:
    tenant.conn.execute("DELETE FROM gleaner.schema_migration")
    with pytest.raises(SchemaError, match=r"gleaner db migrate"):
        tenant.run()


LOADER = """
import json, sys
from include.gleaner import pipeline
params, batch = json.loads(sys.argv[1]), json.loads(sys.argv[2])
print("ready", flush=True)
pipeline.load_chunks(params, "run-x", batch, int(sys.argv[3]))
"""


def test_a_load_that_is_killed_pays_for_no_stored_vector_again(tenant: Tenant) -> None:
    """Requests are made small by their tokens, so that several are needed; the task is killed between them."""
    long = {
        f"/long{number}": page(" ".join(f"Word{number}x{word} stands here." for word in range(4_000)))
        for number in range(24)
    }
    tenant.site.routes = {"/": page("Welcome to the home page of the example company.", *long)} | long
    params = tenant.params(batch_size=500)
    pipeline.crawl_website(params, "run-x")
    batches = pipeline.plan_batches(params, "run-x")
    for batch in batches:
        pipeline.process_pages(params, "run-x", batch, 1)
    batch = batches[0]
    tenant.endpoint.configure(latency_ms=300)
    for attempt in (1, 2):
        before = _stored_vectors(tenant)
        process = subprocess.Popen(
            [sys.executable, "-c", LOADER, json.dumps(params), json.dumps(batch), str(attempt)],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 180
        while (now := _stored_vectors(tenant)) == before and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert now > before
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    wait_until_alone(tenant.conn)
    kept = _stored_vectors(tenant)
    time.sleep(0.5)  # requests that were under way are still being answered, to nobody
    tenant.endpoint.wait_until_idle()
    asked = tenant.endpoint.stats().inputs
    tenant.endpoint.configure(latency_ms=0)
    for batch in batches:
        pipeline.load_chunks(params, "run-x", batch, 3)
    total = tenant.rows("SELECT count(*) FROM gleaner.tenant_knowledge")[0][0]
    assert kept > 0
    assert tenant.endpoint.stats().inputs - asked == total - kept
    assert tenant.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NULL") == [(0,)]
    assert pipeline.reconcile(params, "run-x")["gap"]["pages_not_chunked"] == 0


def _stored_vectors(tenant: Tenant) -> int:
    """Those that were paid for: loaded, or waiting to be."""
    return int(
        tenant.rows(
            "SELECT (SELECT count(*) FROM gleaner.pending_embedding)"
            " + (SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NOT NULL)"
        )[0][0]
    )


def test_vectors_of_another_length_are_told_before_anything_is_fetched(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant.site.routes = website("apples")
    tenant.run()
    requests = tenant.site.requests.total()
    connection = json.loads(os.environ["AIRFLOW_CONN_GLEANER_OPENAI"])
    connection["extra"]["dimensions"] = 512
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(connection))
    with pytest.raises(SetupError, match=r"1536 dimensions.*says 512; set its extra"):
        tenant.run()
    assert tenant.site.requests.total() == requests
