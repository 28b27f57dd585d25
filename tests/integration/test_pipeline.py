"""The pipeline's functions in the order of the DAG, without a scheduler: real servers, database and strict endpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from include.gleaner import pipeline
from include.gleaner.errors import EmbeddingRefusedError, RunFailedError, SchemaError, SetupError, StartPageError
from include.gleaner.search import search
from tests.support.articles import article, website
from tests.support.tenant import Tenant
from tests.support.website import Reply, page

ROOT = Path(__file__).parents[2]


def test_a_whole_run_and_the_same_again(tenant: Tenant) -> None:
    tenant.site.routes = website("apples", "pears")
    report = tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/apples", "/pears"]
    assert article("pears") in tenant.knowledge()[2][1]
    assert report["gap"] == {"pages_not_chunked": 0, "chunks_without_vector": 0, "unexplained": 0}
    assert report["work"]["created"] == 3
    assert tenant.endpoint.stats().calls == 1
    before = tenant.physical()
    report = tenant.run()
    assert (report["planned_pages"], report["work"]["embedded"]) == (0, 0)
    assert tenant.physical() == before
    assert tenant.endpoint.stats().calls == 1


def test_one_changed_page_costs_its_own_texts_only(tenant: Tenant) -> None:
    tenant.site.routes = website("apples", "pears")
    tenant.run()
    tenant.site.routes["/pears"] = page(article("quinces"))
    report = tenant.run()
    assert (report["planned_pages"], report["work"]["embedded"], report["work"]["updated"]) == (1, 1, 1)
    assert tenant.endpoint.stats().inputs == 4
    assert article("quinces") in tenant.knowledge()[2][1]


def test_a_text_that_moves_to_another_page_is_not_paid_again(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    tenant.run()
    tenant.site.routes = website("apples", "fruit")
    tenant.site.routes["/fruit"] = Reply(body=page(article("apples")) + "<!-- other bytes -->")
    report = tenant.run()
    assert report["work"]["created"] == 1
    # The home page has a new link but says the same; the new page says what another one says already.
    assert report["work"]["embedded"] <= 1
    assert max(tenant.endpoint.times_answered(text) for text in embedded_texts(tenant)) == 1


def embedded_texts(tenant: Tenant) -> list[str]:
    return [
        f"{title}\n\n{text}" if title else text
        for title, text in tenant.rows("SELECT section_title, full_text FROM gleaner.tenant_knowledge")
    ]


def test_a_page_that_vanishes_goes_on_evidence(tenant: Tenant) -> None:
    tenant.site.routes = website("apples", "pears")
    tenant.run()
    del tenant.site.routes["/pears"]  # still linked, but 404
    tenant.run()
    assert len(tenant.knowledge()) == 3
    tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/apples"]
    assert tenant.states()["/pears"] == "gone"
    tenant.site.routes["/pears"] = page(article("pears"))
    tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/apples", "/pears"]


def test_a_page_that_a_complete_crawl_does_not_reach_goes_and_an_incomplete_one_takes_nothing(tenant: Tenant) -> None:
    names = ["apples", "berries", "cherries", "figs", "grapes"]
    tenant.site.routes = website(*names, "pears")
    tenant.run()
    tenant.site.routes |= website(*names, "broken")
    tenant.site.routes["/broken"] = Reply(status=500)
    report = tenant.run(max_delete_share=1.0)
    assert report["crawl"]["state"] == "partial"
    assert len(tenant.knowledge()) == 7
    tenant.site.routes["/broken"] = Reply(status=404)
    report = tenant.run()
    assert report["crawl"]["state"] == "complete"
    assert report["retired"] == {"retired": 1, "held_back": 0}
    assert [path for path, _ in tenant.knowledge()] == ["/", *[f"/{name}" for name in names]]


def test_the_delete_brake_holds_and_says_so(tenant: Tenant) -> None:
    names = [f"page{number}" for number in range(20)]
    tenant.site.routes = website(*names)
    tenant.run()
    tenant.site.routes = website(*names[:4])
    report = tenant.run()
    assert report["retired"] == {"retired": 0, "held_back": 16}
    assert len(tenant.knowledge()) == 21
    report = tenant.run(max_delete_share=0.9)
    assert report["retired"] == {"retired": 16, "held_back": 0}
    assert len(tenant.knowledge()) == 5


def test_the_same_bytes_under_two_addresses_are_stored_once(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    tenant.site.routes["/"] = page("Welcome to the home page of the example company.", "/apples", "/apples?view=2")
    tenant.site.routes["/apples?view=2"] = tenant.site.routes["/apples"]
    tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/apples"]
    tenant.site.routes["/apples"] = page(article("something else"))
    tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/apples", "/apples?view=2"]
    assert article("apples") in tenant.knowledge()[2][1]


def test_a_duplicate_that_was_loaded_before_speaks_again(tenant: Tenant) -> None:
    tenant.site.routes = website("apples", "pears")
    tenant.run()
    tenant.site.routes["/pears"] = tenant.site.routes["/apples"]
    tenant.run()
    tenant.site.routes["/apples-long"] = tenant.site.routes["/apples"]
    tenant.site.routes["/"] = page("Welcome to the home page of the example company.", "/apples-long", "/pears")
    tenant.run()  # now /pears is the shortest, and its chunks were retired when it was not
    assert [path for path, _ in tenant.knowledge()] == ["/", "/pears"]


def test_a_canonical_address_without_content_loses_nothing(tenant: Tenant) -> None:
    tenant.site.routes = website("apples", "pears")
    tenant.site.routes["/apples"] = page(
        article("apples"), head=f'<link rel="canonical" href="{tenant.site.url}missing">'
    )
    tenant.site.routes["/pears"] = page(
        article("pears"), head=f'<link rel="canonical" href="{tenant.site.url}best-pears">'
    )
    tenant.site.routes["/best-pears"] = page(article("the best pears"))
    tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/apples", "/best-pears"]


def test_a_page_that_moved_is_not_stored_twice(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    tenant.run()
    tenant.site.routes["/apples"] = Reply(status=301, headers={"Location": "/fruit/apples"})
    tenant.site.routes["/fruit/apples"] = page(article("apples"))
    report = tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/fruit/apples"]
    assert report["work"]["embedded"] == 0


def test_an_error_page_does_not_replace_content(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    tenant.run()
    tenant.site.routes["/apples"] = (
        "<html><head><title>404 Not Found</title></head><body><h1>Not found</h1></body></html>"
    )
    tenant.run()
    assert any(article("apples") in text for _, text in tenant.knowledge())
    assert not any("Not found" in text for _, text in tenant.knowledge())


def test_other_policies_chunk_again(tenant: Tenant) -> None:
    long = " ".join(f"Sentence number {number} says something of its own about apples." for number in range(60))
    tenant.site.routes = {"/": page(long)}
    tenant.run()
    assert len(tenant.knowledge()) == 2
    tenant.run(chunk_tokens=100)
    texts = [text for _, text in tenant.knowledge()]
    assert len(texts) > 6
    assert "".join("".join(texts).split()).count("number17") == 1
    tenant.run()
    assert len(tenant.knowledge()) == 2


def test_the_gist_of_a_long_chunk_may_have_a_vector_of_its_own(tenant: Tenant) -> None:
    long = " ".join(f"Valve {number} opens when the soil of bed {number} is dry." for number in range(20))
    tenant.site.routes = {"/": page("Welcome to the home page.", "/valves"), "/valves": page(long)}
    gists = "SELECT section_title, tldr, tldr_embedding::text FROM gleaner.tenant_knowledge WHERE tldr_hash IS NOT NULL"
    tenant.run()
    assert not tenant.rows(gists)
    inputs = tenant.endpoint.stats().inputs
    report = tenant.run(embed_tldr=True)
    assert tenant.endpoint.stats().inputs == inputs + 1  # the short page is its own gist
    assert (report["work"]["embedded"], report["work"]["reused"], report["work"]["updated"]) == (1, 2, 1)
    ((title, tldr, vector),) = tenant.rows(gists)
    assert tldr in long
    assert tenant.run(embed_tldr=True)["planned_pages"] == 0
    hits = search(
        tenant.conn, tenant_id="acme", query="zzz", vector=np.array(json.loads(vector), np.float32),
        model="text-embedding-3-small", limit=2,
    )  # fmt: skip
    assert hits[0].section_title == title
    assert hits[0].full_text == long
    tenant.run()
    assert not tenant.rows(gists)
    assert tenant.endpoint.stats().inputs == inputs + 1


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


def test_tasks_may_be_run_again_in_any_order(tenant: Tenant) -> None:
    tenant.site.routes = website("apples", "pears")
    params = tenant.params()
    for _ in (1, 2):
        pipeline.crawl_website(params, "run-x")
    batches = pipeline.plan_batches(params, "run-x")
    for attempt in (1, 2):
        for batch in batches:
            pipeline.process_pages(params, "run-x", batch, attempt)
            pipeline.load_chunks(params, "run-x", batch, attempt)
    before = tenant.physical()
    assert pipeline.plan_batches(params, "run-x") == []
    first = pipeline.reconcile(params, "run-x")
    assert pipeline.reconcile(params, "run-x")["work"] == first["work"]
    assert tenant.physical() == before
    assert tenant.endpoint.stats().calls == 1


def test_an_old_schema_is_refused_with_the_command_that_mends_it(tenant: Tenant) -> None:
    tenant.conn.execute("DELETE FROM gleaner.schema_migration")
    with pytest.raises(SchemaError, match=r"gleaner db migrate"):
        tenant.run()


def test_two_tenants_with_the_same_site(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    tenant.run()
    other = Tenant(site=tenant.site, endpoint=tenant.endpoint, conn=tenant.conn, name="other")
    other.run()
    assert other.knowledge() == tenant.knowledge()
    tenant.site.routes["/apples"] = page(article("pears"))
    other.run()
    assert article("apples") in tenant.knowledge()[1][1]
    assert article("pears") in other.knowledge()[1][1]


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
