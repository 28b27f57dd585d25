"""From one embedding model to another: side by side, one switch, the old rows removed after it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import psycopg
import pytest

from include.gleaner.pipeline import switching
from include.gleaner.pipeline.switching import remove_model, switch_model
from tests.support.articles import article, website
from tests.support.embedding_server import API_KEY
from tests.support.tenant import Tenant
from tests.support.website import TestWebsite, page

OLD, NEW = "text-embedding-3-small", "text-embedding-3-large"


@pytest.fixture
def use(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def model(name: str) -> None:
        extra = {"model": name}
        entry = {"conn_type": "generic", "host": tenant.endpoint.url, "password": API_KEY, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(entry))

    return model


def models(tenant: Tenant) -> dict[str, int]:
    return dict(
        tenant.rows("SELECT embedding_model, count(embedding)::int FROM gleaner.tenant_knowledge GROUP BY 1 ORDER BY 1")
    )


def seen(tenant: Tenant) -> tuple[str | None, str | None]:
    return tenant.rows("SELECT search_model, previous_model FROM gleaner.tenant WHERE tenant_id = 'acme'")[0]


def test_a_run_with_a_new_model_replaces_the_old_one(tenant: Tenant, use: Callable[[str], None]) -> None:
    tenant.site.routes = website("apples", "pears")
    use(OLD)
    tenant.run()
    assert (models(tenant), seen(tenant)) == ({OLD: 3}, (OLD, None))
    use(NEW)
    report = tenant.run()
    assert (models(tenant), seen(tenant)) == ({NEW: 3}, (NEW, None))
    assert report["pages_behind"] == 0
    assert tenant.rows("SELECT DISTINCT vector_dims(embedding) FROM gleaner.tenant_knowledge") == [(3_072,)]
    use(OLD)
    tenant.run()  # and back again: nothing of the old model was left over to be taken for complete
    assert (models(tenant), seen(tenant)) == ({OLD: 3}, (OLD, None))


def test_readers_keep_the_old_model_until_every_website_is_there(tenant: Tenant, use: Callable[[str], None]) -> None:
    with TestWebsite() as other, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLEANER_LOCAL_HOSTS", f"{tenant.site.host},{other.host}")
        second = replace(tenant, site=other, numbers=count(100))
        tenant.site.routes, other.routes = website("apples"), {"/": page(article("figs"))}
        use(OLD)
        tenant.run()
        second.run()
        use(NEW)
        report = tenant.run()
        assert (models(tenant), seen(tenant)) == ({NEW: 2, OLD: 3}, (OLD, None))
        assert report["pages_behind"] == 1
        assert second.run()["pages_behind"] == 0
        assert (models(tenant), seen(tenant)) == ({NEW: 3}, (NEW, None))


def test_a_new_model_without_all_of_its_vectors_is_not_switched_to(tenant: Tenant, use: Callable[[str], None]) -> None:
    tenant.site.routes = website("apples", "pears")
    use(OLD)
    tenant.run()
    tenant.conn.execute("UPDATE gleaner.tenant SET monthly_token_quota = 0")
    use(NEW)
    report = tenant.run()
    assert (report["pages_behind"], seen(tenant), models(tenant)) == (3, (OLD, None), {NEW: 0, OLD: 3})
    tenant.conn.execute("UPDATE gleaner.tenant SET monthly_token_quota = NULL")
    tenant.run()
    assert (seen(tenant), models(tenant)) == ((NEW, None), {NEW: 3})


def test_a_page_that_goes_meanwhile_goes_from_both(tenant: Tenant, use: Callable[[str], None]) -> None:
    tenant.site.routes = website("apples", "pears")
    use(OLD)
    tenant.run()
    tenant.site.routes = website("apples")
    use(NEW)
    tenant.run()
    assert (seen(tenant), models(tenant)) == ((NEW, None), {NEW: 2})


def test_a_removal_that_was_killed_is_finished_by_the_next_run(
    tenant: Tenant, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant.site.routes = website("apples", "pears", "plums")
    use(OLD)
    tenant.run()
    use(NEW)
    monkeypatch.setattr(switching, "PAGES_PER_STEP", 1)
    steps = count(1)
    hold = switching.queries("models")["hold_state"]
    real = psycopg.Connection.execute

    def killed(conn: psycopg.Connection, query: object, *values: object, **more: object) -> object:
        if query == hold and next(steps) == 3:
            raise KeyboardInterrupt
        return real(conn, query, *values, **more)  # type: ignore[arg-type, call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Connection, "execute", killed)
        with pytest.raises(KeyboardInterrupt):
            tenant.run()
    assert (seen(tenant), models(tenant)) == ((NEW, OLD), {NEW: 4, OLD: 2})
    tenant.run()
    assert (seen(tenant), models(tenant)) == ((NEW, None), {NEW: 4})


def test_a_model_that_readers_see_is_never_removed(tenant: Tenant, use: Callable[[str], None]) -> None:
    tenant.site.routes = website("apples")
    use(OLD)
    tenant.run()
    assert remove_model(tenant.conn, tenant_id="acme", model=OLD) == 0
    assert switch_model(tenant.conn, tenant_id="acme", model=NEW) == 2
    assert (seen(tenant), models(tenant)) == ((OLD, None), {OLD: 2})


def test_readers_never_see_a_mixture(tenant: Tenant, use: Callable[[str], None], knowledge_dsn: str) -> None:
    """A reader in a loop sees all pages of one model or all of the other, while models change to and fro."""
    tenant.site.routes = website("apples", "pears", "plums")
    use(OLD)
    tenant.run()
    views: list[tuple[list[str], int]] = []
    over = threading.Event()

    def read() -> None:
        with psycopg.connect(knowledge_dsn, autocommit=True) as own:
            while not over.is_set():
                row = own.execute(
                    "SELECT array_agg(DISTINCT k.embedding_model), count(k.embedding)::int"
                    " FROM gleaner.tenant t JOIN gleaner.tenant_knowledge k"
                    " ON k.tenant_id = t.tenant_id AND k.embedding_model = t.search_model"
                ).fetchone()
                assert row is not None
                views.append(row)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for name in (NEW, OLD, NEW):
            use(name)
            tenant.run()
    finally:
        over.set()
        thread.join()
    assert {(tuple(found), number) for found, number in views} == {((OLD,), 4), ((NEW,), 4)}
