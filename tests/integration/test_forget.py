"""What is forgotten is gone from every table, stays away, and costs nobody else a row."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from include.gleaner import pipeline
from include.gleaner.errors import InvalidParamError
from include.gleaner.ops import forget
from tests.support.orchard import page_of, rows_of, rows_with, source_of, tables
from tests.support.tenant import Tenant
from tests.support.website import page

ROOT = Path(__file__).parents[2]


def test_a_page_goes_from_every_table_and_nothing_else_does(orchard: Tenant) -> None:
    gone = page_of(orchard, "/pears")
    assert set(rows_with(orchard.conn, str(gone))) >= {
        "website_page",
        "page_snapshot",
        "page_document",
        "tenant_knowledge",
    }
    orchard.conn.execute(  # a vector of each text that was paid for and not loaded
        "INSERT INTO gleaner.pending_embedding (tenant_id, embedding_model, text_hash, embedding)"
        " SELECT tenant_id, 'another-model', text_hash, '[1, 2]' FROM gleaner.tenant_knowledge"
    )
    ((text,),) = orchard.rows("SELECT text_hash::text FROM gleaner.tenant_knowledge WHERE source_id = %s", gone)
    before = rows_of(orchard.conn, orchard.name)
    assert any(text in row for row in before["pending_embedding"])
    neighbour = rows_of(orchard.conn, "neighbour")
    removed = forget.forget_page(orchard.conn, orchard.name, gone)
    assert (removed.done, removed.pages, removed.chunks) == (True, 1, 1)
    assert rows_with(orchard.conn, str(gone)) == {"forgotten": 1}
    after = rows_of(orchard.conn, orchard.name)
    for name in set(tables(orchard.conn)) - {"metric_change", "metric_total"}:  # counts of rows, not rows
        assert [row for row in before[name] if str(gone) not in row and text not in row] == [
            row for row in after[name] if str(gone) not in row
        ]
    assert rows_of(orchard.conn, "neighbour") == neighbour
    assert forget.forget_page(orchard.conn, orchard.name, gone).pages == 0  # again does nothing


def test_a_page_that_was_forgotten_stays_away_until_it_is_let_in_again(orchard: Tenant) -> None:
    forget.forget_page(orchard.conn, orchard.name, page_of(orchard, "/pears"))
    asked = orchard.site.requests["/pears"]
    orchard.site.routes["/apples"] = page("Apples anew, and a link.", "/pears")
    report = orchard.run()
    assert report["gap"]["pages_not_chunked"] == 0
    assert orchard.site.requests["/pears"] == asked
    assert [path for path, _ in orchard.knowledge()] == ["/", "/apples", "/quinces"]
    assert pipeline.find_pages_to_mend("scheduled") == []
    pipeline.look_over_knowledge()
    assert "/pears" not in orchard.states()

    assert forget.allow(orchard.conn, orchard.name, page_of(orchard, "/pears")) == 1
    orchard.run()
    assert [path for path, _ in orchard.knowledge()] == ["/", "/apples", "/pears", "/quinces"]


def test_the_neighbour_keeps_and_crawls_the_page_of_the_same_address(orchard: Tenant) -> None:
    forget.forget_page(orchard.conn, orchard.name, page_of(orchard, "/pears"))
    neighbour = Tenant(orchard.site, orchard.endpoint, orchard.conn, name="neighbour")
    neighbour.run(chunk_tokens=300)
    assert "/pears" in [path for path, _ in neighbour.knowledge()]
    with pytest.raises(InvalidParamError, match="has no such page"):  # an id of another tenant
        forget.forget_page(orchard.conn, "neighbour", page_of(orchard, "/apples"))
    assert "/apples" in orchard.states()


def test_the_start_page_is_not_forgotten_alone(orchard: Tenant) -> None:
    with pytest.raises(InvalidParamError, match="forget the website instead"):
        forget.forget_page(orchard.conn, orchard.name, page_of(orchard, "/"))
    assert "/" in orchard.states()


@pytest.mark.parametrize("stage", ["process", "load"])
def test_a_page_that_is_forgotten_while_a_task_works_on_it_does_not_come_back(tenant: Tenant, stage: str) -> None:
    """The task has read the page already when the removal takes its locks; then it waits, and finds no page."""
    tenant.site.routes = {"/": page("Welcome.", "/pears", "/plums")} | {
        f"/{name}": page(f"All that is known of {name}.") for name in ("pears", "plums")
    }
    params = tenant.params()
    pipeline.crawl_website(params, "run")
    batches = pipeline.plan_batches(params, "run")
    if stage == "load":
        for batch in batches:
            pipeline.process_pages(params, "run", batch, 1)
        batches = pipeline.survey_site(params, "run")
    work = pipeline.process_pages if stage == "process" else pipeline.load_chunks
    failures: list[BaseException] = []

    def task() -> None:
        try:
            for batch in batches:
                work(params, "run", batch, 1)
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    gone = page_of(tenant, "/pears")
    thread = threading.Thread(target=task)
    with tenant.conn.transaction():
        key = {"tenant_id": tenant.name, "target_id": gone, "source_id": source_of(tenant), "url": "https://x.example/"}
        tenant.conn.execute(forget.queries("forget")["note"], key)
        forget._delete_pages(tenant.conn, tenant.name, [gone])
        thread.start()
        for _ in range(600):  # until the task stands before our lock
            row = tenant.conn.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
            if row and row[0]:
                break
            thread.join(0.05)
            assert thread.is_alive(), failures
        else:
            raise AssertionError("the task never met the lock")
    thread.join(60)
    assert failures == []
    assert rows_with(tenant.conn, str(gone)) == {"forgotten": 1}
    if stage == "load":
        assert tenant.states() == {"/": "chunked", "/plums": "chunked"}
        assert [path for path, _ in tenant.knowledge()] == ["/", "/plums"]
    else:
        assert tenant.states() == {"/": "completed", "/plums": "completed"}


def test_a_page_found_at_the_moment_it_is_forgotten_is_never_fetched(orchard: Tenant) -> None:
    gone = page_of(orchard, "/pears")
    forget.forget_page(orchard.conn, orchard.name, gone)
    # What a crawl that found it before our transaction would write after it.
    orchard.conn.execute(
        "INSERT INTO gleaner.website_page (tenant_id, page_id, source_id, url, depth, found_job)"
        " SELECT %s, %s, %s, %s, 0, max(job_id) + 1 FROM gleaner.crawl_job",
        (orchard.name, gone, source_of(orchard), orchard.site.url + "pears"),
    )
    asked = orchard.site.requests["/pears"]
    report = orchard.run()
    assert report["crawl"]["state"] == "complete"
    assert orchard.site.requests["/pears"] == asked
    pipeline.look_over_knowledge()
    assert "/pears" not in orchard.states()


def test_a_website_goes_with_its_runs_and_is_refused_until_it_is_let_in(orchard: Tenant) -> None:
    neighbour = rows_of(orchard.conn, "neighbour")
    source = source_of(orchard)
    removed = forget.forget_source(orchard.conn, orchard.name, source)
    assert (removed.done, removed.pages, removed.chunks) == (True, 4, 4)
    left = {name: rows for name, rows in rows_of(orchard.conn, orchard.name).items() if rows}
    assert set(left) == {"tenant", "forgotten", "embedding_usage"}
    assert rows_of(orchard.conn, "neighbour") == neighbour
    assert forget.forget_source(orchard.conn, orchard.name, source).pages == 0

    with pytest.raises(InvalidParamError, match="let it in again"):
        orchard.run()
    assert rows_of(orchard.conn, orchard.name)["website_source"] == []
    assert all(item["conf"]["tenant"] != orchard.name for item in pipeline.find_due_websites())

    forget.allow(orchard.conn, orchard.name, source)
    orchard.run()
    assert len(orchard.knowledge()) == 4


def test_a_website_whose_removal_was_stopped_is_gone_after_maintenance(
    orchard: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forget, "PAGES_AT_ONCE", 1)
    source = source_of(orchard)
    removed = forget.forget_source(orchard.conn, orchard.name, source, seconds=0)
    assert (removed.done, removed.pages) == (False, 1)
    assert [item.is_under_way for item in forget.list_forgotten(orchard.conn, orchard.name)] == [True]
    with pytest.raises(InvalidParamError, match="still being removed"):
        forget.allow(orchard.conn, orchard.name, source)
    with pytest.raises(InvalidParamError, match="let it in again"):
        orchard.run()  # no run takes up what is half gone
    assert pipeline.look_over_knowledge()["forgotten_websites"] == 1
    assert rows_with(orchard.conn, str(source)) == {"forgotten": 1}


FORGET_AND_DIE = """
import os, sys, uuid, psycopg
from include.gleaner.ops import forget
forget.PAGES_AT_ONCE = 1
conn = psycopg.connect(sys.argv[1], autocommit=True)
real, calls = forget._delete_pages, []
def some(*arguments):
    calls.append(1)
    found = real(*arguments)
    if len(calls) == 3:
        os.kill(os.getpid(), 9)
    return found
forget._delete_pages = some
forget.forget_source(conn, sys.argv[2], uuid.UUID(sys.argv[3]))
"""


def test_killed_within_a_transaction_and_called_again(orchard: Tenant, knowledge_dsn: str) -> None:
    source = source_of(orchard)
    died = subprocess.run(
        [sys.executable, "-c", FORGET_AND_DIE, knowledge_dsn, orchard.name, str(source)], cwd=ROOT, check=False
    )
    assert died.returncode == -9
    assert len(orchard.states()) == 2  # two were gone for good, the third came back whole
    whole = orchard.rows(
        "SELECT count(*) FROM gleaner.website_page p JOIN gleaner.tenant_knowledge k"
        " ON k.tenant_id = p.tenant_id AND k.source_id = p.page_id WHERE p.tenant_id = %s",
        orchard.name,
    )
    assert whole == [(2,)]
    assert forget.forget_source(orchard.conn, orchard.name, source).done
    assert rows_with(orchard.conn, str(source)) == {"forgotten": 1}
