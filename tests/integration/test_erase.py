"""A tenant that is erased is gone from every table; an export holds all of it, and nothing of another."""

from __future__ import annotations

import json
import re
import zlib
from typing import Any

import psycopg
import pytest

from include.gleaner.crawl import crawler
from include.gleaner.errors import InvalidParamError, RunFailedError
from include.gleaner.models import page_id_of, source_id_of
from include.gleaner.ops import forget
from include.gleaner.ops.erase import erase_tenant, export_tenant
from include.gleaner.pipeline import grouping, processing
from tests.support.orchard import rows_of, rows_with, source_of
from tests.support.tenant import Tenant


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


@pytest.mark.parametrize("beneath", ["crawl", "process", "load"])
def test_a_task_whose_tenant_is_erased_beneath_it_says_so(
    orchard: Tenant, monkeypatch: pytest.MonkeyPatch, beneath: str
) -> None:
    tenant = Tenant(orchard.site, orchard.endpoint, orchard.conn, name=f"erased-in-{beneath}")
    module, name = {
        "crawl": (crawler, "visit_page"), "process": (processing, "open_page"), "load": (grouping, "split"),
    }[beneath]  # fmt: skip
    work = getattr(module, name)

    def erasing(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(module, name, work)
        with psycopg.connect(orchard.conn.info.dsn, password=orchard.conn.info.password, autocommit=True) as other:
            erase_tenant(other, tenant.name)
        return work(*args, **more)

    monkeypatch.setattr(module, name, erasing)
    with pytest.raises(RunFailedError) as caught:
        tenant.run()
    assert re.search("erased or forgotten|has no crawl", str(caught.value))
    assert rows_with(orchard.conn, tenant.name) == {}


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
