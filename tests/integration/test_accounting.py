"""What vectors cost: charged as they are stored, priced, limited by the month's quota, estimated before a run."""

from __future__ import annotations

import json
import threading
from typing import Any

import psycopg
import pytest

from include.gleaner import pipeline
from include.gleaner.errors import ConnectionMissingError, InvalidParamError
from include.gleaner.local.searching import ask
from include.gleaner.ops.tenants import main, set_quota
from include.gleaner.pipeline.connections import embedding
from include.gleaner.pipeline.quota import Quota, quota_of
from include.gleaner.report.run_report import lines
from include.gleaner.search import MAX_QUERY_CHARACTERS
from tests.support.articles import article, website
from tests.support.embedding_server import API_KEY
from tests.support.tenant import Tenant
from tests.support.website import page

NAMES = ("apples", "pears", "plums", "figs")


def usage(tenant: Tenant) -> list[tuple[Any, ...]]:
    return tenant.rows("SELECT requests, inputs, tokens FROM gleaner.embedding_usage WHERE tenant_id = %s", tenant.name)


def without_vectors(tenant: Tenant) -> int:
    return int(tenant.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NULL")[0][0])


def test_a_run_is_charged_with_what_the_endpoint_billed(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    report = tenant.run()
    told = tenant.endpoint.stats()
    assert usage(tenant) == [(told.calls, told.inputs, told.tokens)]
    assert report["work"]["tokens"] == report["month"]["tokens"] == told.tokens > 0
    assert report["cost"] == pytest.approx(told.tokens * 0.02 / 1e6, abs=1e-6)
    assert report["cost"] > 0
    assert any(f"{told.tokens:,} tokens, $" in text for _, text in lines(report))
    tenant.run()
    assert usage(tenant) == [(told.calls, told.inputs, told.tokens)]


def test_the_price_may_be_told_with_the_connection(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(**extra: Any) -> None:
        told = {"model": "text-embedding-3-small", "dimensions": 1_536, **extra}
        entry = {"conn_type": "generic", "host": tenant.endpoint.url, "password": API_KEY, "extra": told}
        monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(entry))

    tenant.site.routes = website(*NAMES)
    connect(price_per_million_tokens=1_000)
    report = tenant.run()
    assert report["cost"] == pytest.approx(report["work"]["tokens"] / 1_000)
    connect(price_per_million_tokens="cheap")
    with pytest.raises(ConnectionMissingError, match="price_per_million_tokens"):
        tenant.run()


@pytest.mark.parametrize(
    "extra", ["{'model': 'x'}", "[1]", '"text-embedding-3-large"', "null", '{"dimensions": true}', '{"model": 3}']
)
def test_an_extra_that_cannot_be_read_is_not_taken_for_none(monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    """It may name another model than the default, whose vectors would be paid for."""
    entry = {"conn_type": "generic", "host": "http://127.0.0.1:9/v1", "password": API_KEY, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(entry))
    with pytest.raises(ConnectionMissingError, match="the extra must"):
        embedding()


def test_a_question_is_cut_before_it_is_paid_for(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    tenant.endpoint.reset()
    assert ask(tenant.conn, tenant.name, "plums and pears " * 5_000, 3)
    assert 0 < tenant.endpoint.stats().most_tokens <= MAX_QUERY_CHARACTERS


def test_a_spent_quota_stops_politely_and_goes_on_when_it_is_raised(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    set_quota(tenant.conn, tenant.name, 90)
    report = tenant.run()
    spent = usage(tenant)[0][2]
    assert 0 < spent <= 90
    missing = without_vectors(tenant)
    assert 0 < missing < 5
    assert len(tenant.knowledge()) == 5  # found by their words meanwhile
    assert report["month"] == {"tokens": spent, "quota": 90, "withheld": missing}
    assert report["gap"]["chunks_without_vector"] == missing
    assert any(label == "Quota" and f"{missing} texts were not embedded" in text for label, text in lines(report))
    inputs = tenant.endpoint.stats().inputs
    assert tenant.run()["gap"]["chunks_without_vector"] == missing  # the same month, nothing is left
    read = tenant.rows("SELECT job_id, sum(pages)::int FROM gleaner.batch_report WHERE stage = 'process' GROUP BY 1")
    assert sorted(pages for _, pages in read) == [0, 5]  # and nothing was read again for it
    assert tenant.endpoint.stats().inputs == inputs
    set_quota(tenant.conn, tenant.name, None)
    report = tenant.run()
    assert (report["gap"]["chunks_without_vector"], report["month"]["withheld"], without_vectors(tenant)) == (0, 0, 0)
    assert tenant.endpoint.stats().inputs == 5  # none twice


def test_an_answer_without_one_usable_vector_is_charged_too(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.endpoint.configure(nan_first=1, nan_marker=" ")  # in every text
    report = tenant.run()
    assert report["work"]["requests"] == 2
    assert tenant.rows("SELECT requests, inputs, tokens FROM gleaner.embedding_usage") == [
        (2, report["work"]["embedded"], report["work"]["tokens"])
    ]
    assert tenant.endpoint.stats().tokens == report["work"]["tokens"]


def test_the_quota_is_of_this_month_alone(tenant: Tenant) -> None:
    set_quota(tenant.conn, tenant.name, 100)
    tenant.conn.execute(
        "INSERT INTO gleaner.embedding_usage (tenant_id, embedding_model, month, tokens) VALUES"
        " ('acme', 'm', (date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 month')::date, 90),"
        " ('acme', 'm', date_trunc('month', now() AT TIME ZONE 'UTC')::date, 30),"
        " ('acme', 'other', date_trunc('month', now() AT TIME ZONE 'UTC')::date, 30)"
    )
    with quota_of(tenant.conn, tenant_id="acme", holder="1/1") as quota:
        assert quota.admit([10] * 10) == 4


def test_tasks_side_by_side_never_spend_the_same_rest(knowledge_dsn: str, conn: psycopg.Connection) -> None:
    set_quota(conn, "acme", 1_000)
    admitted: list[int] = []
    gate = threading.Barrier(8)

    def reserve(number: int) -> None:
        with psycopg.connect(knowledge_dsn, autocommit=True) as own:
            gate.wait()
            admitted.append(Quota(own, tenant_id="acme", holder=f"1/{number}").admit([30] * 20))

    threads = [threading.Thread(target=reserve, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 8
    assert sum(admitted) == 33  # times 30: all of it but less than one text


def test_a_task_that_died_gives_its_reservation_to_its_retry_and_in_time_to_all(conn: psycopg.Connection) -> None:
    set_quota(conn, "acme", 100)
    assert Quota(conn, tenant_id="acme", holder="1/1").admit([50, 50]) == 2  # and is killed
    assert Quota(conn, tenant_id="acme", holder="1/2").admit([50]) == 0
    assert Quota(conn, tenant_id="acme", holder="1/1").admit([50, 50]) == 2
    conn.execute("UPDATE gleaner.token_reservation SET held_until = now() - interval '1 s' WHERE holder = '1/1'")
    with quota_of(conn, tenant_id="acme", holder="1/2") as quota:
        assert quota.admit([50]) == 1
    assert conn.execute("SELECT count(*) FROM gleaner.token_reservation").fetchone() == (0,)


def test_another_tenant_has_a_quota_of_its_own(conn: psycopg.Connection) -> None:
    set_quota(conn, "acme", 0)
    set_quota(conn, "globex", 10)
    assert Quota(conn, tenant_id="acme", holder="1/1").admit([1]) == 0
    assert Quota(conn, tenant_id="globex", holder="1/1").admit([10]) == 1


def test_a_dry_run_counts_asks_for_nothing_and_stores_nothing(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    told = tenant.run(dry_run=True)
    assert (tenant.knowledge(), tenant.endpoint.stats().calls, usage(tenant)) == ([], 0, [])
    assert (told["work"]["chunks"], told["work"]["tokens"], told["cost"]) == (0, 0, 0.0)
    plan = told["dry_run"]
    assert (plan["pages"], plan["chunks"], plan["vectors"], plan["reused"]) == (5, 5, 5, 0)
    assert any(label == "Dry run" and "5 pages would give 5 chunks" in text for label, text in lines(told))
    done = tenant.run()
    assert (done["work"]["chunks"], done["work"]["embedded"], done["work"]["tokens"], done["cost"]) == (
        plan["chunks"], plan["vectors"], plan["tokens"], plan["cost"],
    )  # fmt: skip
    assert "dry_run" not in done


def test_a_dry_run_over_knowledge_changes_none_of_it_and_removes_nothing(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    before = tenant.physical()
    tenant.site.routes = website("apples", "pears", "plums") | {"/pears": page(article("quinces"))}
    plan = tenant.run(dry_run=True)["dry_run"]
    assert tenant.physical() == before
    assert (plan["vectors"], plan["reused"]) == (2, 0)  # the home page lists one article fewer
    tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/apples", "/pears", "/plums"]
    assert article("quinces") in tenant.knowledge()[2][1]


def test_a_dry_run_is_asked_for_by_a_boolean(tenant: Tenant) -> None:
    with pytest.raises(InvalidParamError, match="dry_run"):
        pipeline.crawl_website(tenant.params(dry_run="yes"), "run-1")


def test_the_command_shows_and_sets(tenant: Tenant, knowledge_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    assert main(["quota", "acme", "5000", "--dsn", knowledge_dsn]) == 0
    out = capsys.readouterr().out
    assert "Readers see   text-embedding-3-small" in out
    assert f"{usage(tenant)[0][2]} of 5,000 tokens" in out
    assert "5 of text-embedding-3-small, 5 with a vector" in out
    assert main(["quota", "acme", "none", "--dsn", knowledge_dsn]) == 0
    assert "any number of tokens" in capsys.readouterr().out
    assert main(["show", "nobody", "--dsn", knowledge_dsn]) == 1
    assert "no tenant 'nobody'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["quota", "acme", "-5", "--dsn", knowledge_dsn])
    capsys.readouterr()
    assert main(["show", "acme", "--dsn", "postgresql://u:not-for-logs@[::1/x"]) == 1  # libpq repeats it whole
    said = capsys.readouterr().err
    assert (said.count("\n"), "not-for-logs" in said, "cannot be reached" in said) == (1, False, True)
