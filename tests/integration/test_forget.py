"""What is forgotten or erased is gone from every table, stays away, and costs nobody else a row."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
import zlib
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from include.gleaner import pipeline
from include.gleaner.errors import InvalidParamError
from include.gleaner.models import page_id_of, source_id_of
from include.gleaner.ops import forget
from include.gleaner.ops.erase import erase_tenant, export_tenant
from tests.support.tenant import Tenant
from tests.support.website import page

ROOT = Path(__file__).parents[2]
NAMES = ("apples", "pears", "quinces")


@pytest.fixture
def orchard(tenant: Tenant) -> Tenant:
    """A tenant with a website of four pages, loaded; and a neighbour with the same."""
    tenant.site.routes = {"/": page("Welcome to the orchard.", *[f"/{name}" for name in NAMES])} | {
        f"/{name}": page(f"The article about {name} tells of {name} and of nothing else.") for name in NAMES
    }
    tenant.run()
    Tenant(tenant.site, tenant.endpoint, tenant.conn, name="neighbour").run()
    return tenant


def source_of(tenant: Tenant) -> uuid.UUID:
    return source_id_of(tenant.name, tenant.site.url)


def page_of(tenant: Tenant, path: str) -> uuid.UUID:
    return page_id_of(tenant.name, source_of(tenant), tenant.site.url.rstrip("/") + path)


def tables(conn: psycopg.Connection) -> list[str]:
    """Every table of the schema, by the catalog: one that is added later is in it."""
    found = conn.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'gleaner'::regnamespace AND relkind IN ('r', 'p')"
    ).fetchall()
    assert len(found) > 15
    return sorted(name for (name,) in found)


def rows_with(conn: psycopg.Connection, text: str) -> dict[str, int]:
    """In which tables some column of some row holds the text, and in how many rows."""
    query = "SELECT count(*) FROM gleaner.{} AS t WHERE position(%s IN t::text) > 0"
    counts = {
        name: conn.execute(sql.SQL(query).format(sql.Identifier(name)), (text,)).fetchone() for name in tables(conn)
    }
    return {name: row[0] for name, row in counts.items() if row and row[0]}


def rows_of(conn: psycopg.Connection, tenant: str) -> dict[str, list[str]]:
    """All rows of a tenant, by table."""
    query = "SELECT t::text FROM gleaner.{} AS t WHERE to_jsonb(t) ->> 'tenant_id' = %s ORDER BY 1"
    return {
        name: [row for (row,) in conn.execute(sql.SQL(query).format(sql.Identifier(name)), (tenant,))]
        for name in tables(conn)
    }


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


def test_a_tenant_is_erased_from_every_table_whichever_there_are(orchard: Tenant) -> None:
    neighbour = rows_of(orchard.conn, "neighbour")
    name = "tenant-of-no-other"
    Tenant(orchard.site, orchard.endpoint, orchard.conn, name=name).run()
    forget.forget_page(
        orchard.conn, name, page_id_of(name, source_id_of(name, orchard.site.url), orchard.site.url + "pears")
    )
    # A table of a later version, which nothing in the code names, and a reader bound to the tenant.
    orchard.conn.execute(
        "CREATE TABLE gleaner.of_a_later_version (tenant_id text NOT NULL, page_id uuid NOT NULL, note text,"
        " FOREIGN KEY (tenant_id, page_id) REFERENCES gleaner.website_page)"
    )
    orchard.conn.execute(
        "INSERT INTO gleaner.of_a_later_version SELECT tenant_id, page_id, 'kept' FROM gleaner.website_page"
    )
    orchard.conn.execute("INSERT INTO gleaner.reader_tenant VALUES ('somebody', %s)", (name,))
    turns = {"bucket": {"tenants": {name: {}, "neighbour": {}}}}  # what the shared limits remember of them
    orchard.conn.execute("INSERT INTO gleaner.endpoint_state VALUES ('limited', %s)", (json.dumps(turns),))
    assert len(rows_with(orchard.conn, name)) >= 12, "the tenant has to be in most tables, or this shows little"

    rounds = [erase_tenant(orchard.conn, name, seconds=0) for _ in range(3)]
    assert not any(found.done for found in rounds)  # stopped after a step each, and gone on with
    assert all(found.rows > 0 for found in rounds)
    assert erase_tenant(orchard.conn, name).done
    assert rows_with(orchard.conn, name) == {}
    assert erase_tenant(orchard.conn, name).rows == 0
    after = rows_of(orchard.conn, "neighbour")
    assert len(after.pop("of_a_later_version")) == 4
    assert after == neighbour
    assert rows_with(orchard.conn, "neighbour")["endpoint_state"] == 1


def test_an_export_holds_every_row_of_the_tenant_and_none_of_another(orchard: Tenant) -> None:
    expected = {name: len(rows) for name, rows in rows_of(orchard.conn, orchard.name).items()}
    packed = b"".join(export_tenant(orchard.conn, orchard.name))
    lines = [json.loads(line) for line in zlib.decompress(packed, 31).splitlines()]
    head, *rows, tail = lines
    assert (head["export"], head["tenant"]) == ("gleaner", orchard.name)
    counted: dict[str, int] = {}
    for line in rows:
        assert line["row"]["tenant_id"] == orchard.name
        counted[line["table"]] = counted.get(line["table"], 0) + 1
    assert counted == {name: number for name, number in expected.items() if number}
    assert {name: number for name, number in tail["rows"].items() if number} == counted
    bodies = [line["row"]["body"] for line in rows if line["table"] == "page_snapshot"]
    assert any(b"article about pears" in zlib.decompress(bytes.fromhex(body[2:])) for body in bodies)
    assert "neighbour" not in json.dumps(rows)


def test_an_export_of_nobody_is_refused(conn: psycopg.Connection) -> None:
    with pytest.raises(InvalidParamError, match="no tenant"):
        next(export_tenant(conn, "nobody"))


def test_an_export_is_of_one_moment(orchard: Tenant, knowledge_dsn: str) -> None:
    stream = export_tenant(orchard.conn, orchard.name)
    blocks: list[Any] = [next(stream)]
    with psycopg.connect(knowledge_dsn, autocommit=True) as other:
        forget.forget_source(other, orchard.name, source_of(orchard))
    blocks += stream
    tail = json.loads(zlib.decompress(b"".join(blocks), 31).splitlines()[-1])
    assert tail["rows"]["website_page"] == 4
