"""Which websites are refreshed and when: by their own interval, tenants in fair turns, what is paused never."""

from __future__ import annotations

import json

import psycopg
import pytest

from include.gleaner import pipeline
from include.gleaner.config import INGEST_PARAMS
from include.gleaner.models import source_id_of
from include.gleaner.ops import forget, sources
from tests.support.articles import website
from tests.support.tenant import Tenant
from tests.support.website import Reply


def due() -> list[str]:
    return [found["conf"]["tenant"] for found in pipeline.find_due_websites()]


def crawled_ago(tenant: Tenant, interval: str) -> None:
    tenant.conn.execute(
        "UPDATE gleaner.crawl_job SET started_at = started_at - %s::interval WHERE tenant_id = %s",
        (interval, tenant.name),
    )


@pytest.fixture
def crawled(tenant: Tenant) -> Tenant:
    tenant.site.routes = website("apples")
    tenant.run(max_pages=7)
    return tenant


def test_a_website_is_due_after_its_interval_with_the_params_of_its_last_run(crawled: Tenant) -> None:
    assert due() == []
    crawled_ago(crawled, "21 hours")
    assert due() == []
    crawled_ago(crawled, "1 hour")  # a tenth of the interval to spare
    (found,) = pipeline.find_due_websites()
    assert found["conf"] == crawled.params(max_pages=7)
    assert set(found["conf"]) <= INGEST_PARAMS
    crawled.run(max_pages=7)
    assert due() == []


def test_who_finds_it_due_before_it_is_crawled_triggers_the_same_run(crawled: Tenant) -> None:
    crawled_ago(crawled, "2 days")
    first, second = (pipeline.find_due_websites()[0]["trigger_run_id"] for _ in range(2))
    assert first == second
    assert first.startswith("refresh__acme__")
    crawled.run()
    crawled_ago(crawled, "2 days")
    assert pipeline.find_due_websites()[0]["trigger_run_id"] != first


def test_what_is_paused_never_due_or_under_way_is_left_alone(crawled: Tenant, knowledge_dsn: str) -> None:
    crawled_ago(crawled, "2 days")
    url = crawled.site.url
    for command, is_due in (("pause", []), ("resume", ["acme"])):
        assert sources.main(["--dsn", knowledge_dsn, command, "acme", url]) == 0
        assert due() == is_due
    assert sources.main(["--dsn", knowledge_dsn, "every", "acme", url, "never"]) == 0
    assert due() == []
    assert sources.main(["--dsn", knowledge_dsn, "every", "acme", url, "3"]) == 0
    assert due() == []
    crawled_ago(crawled, "1 day")
    assert due() == ["acme"]
    crawled.conn.execute("UPDATE gleaner.crawl_job SET finished_at = NULL")
    assert due() == ["acme"]  # it began three days ago: it is dead
    crawled.conn.execute("UPDATE gleaner.crawl_job SET started_at = now()")
    crawled.conn.execute("UPDATE gleaner.website_source SET refresh_every = '1 hour'")
    crawled_ago(crawled, "2 hours")
    assert due() == []


def test_what_is_being_forgotten_is_not_due_although_somebody_resumes_it(crawled: Tenant, knowledge_dsn: str) -> None:
    crawled_ago(crawled, "2 days")
    source = source_id_of(crawled.name, crawled.site.url)
    forget.forget_source(crawled.conn, crawled.name, source, seconds=-1)  # stopped on its way
    assert due() == []
    assert sources.main(["--dsn", knowledge_dsn, "resume", crawled.name, crawled.site.url]) == 0
    assert due() == []  # its run would be red in the first task


def test_a_dry_run_or_a_start_page_that_fails_is_not_repeated(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    tenant.run(dry_run=True)
    crawled_ago(tenant, "2 days")
    assert due() == []
    tenant.run(max_depth=3)
    tenant.site.routes["/"] = Reply(status=503)
    with pytest.raises(Exception, match="503"):
        tenant.run(max_depth=5)
    tenant.conn.execute("UPDATE gleaner.crawl_job SET finished_at = now()")
    crawled_ago(tenant, "2 days")
    (found,) = pipeline.find_due_websites()
    assert found["conf"]["max_depth"] == 3


def test_tenants_take_fair_turns(crawled: Tenant) -> None:
    for number in range(3):
        crawled.conn.execute(
            "INSERT INTO gleaner.website_source (tenant_id, source_id, root_url, params)"
            " VALUES ('acme', gen_random_uuid(), %s, %s)",
            (f"https://{number}.example/", json.dumps({"tenant": "acme"})),
        )
    crawled.conn.execute("INSERT INTO gleaner.tenant VALUES ('zulu')")
    crawled.conn.execute(
        "INSERT INTO gleaner.website_source (tenant_id, source_id, root_url, params)"
        " VALUES ('zulu', gen_random_uuid(), 'https://z.example/', '{\"tenant\": \"zulu\"}')"
    )
    crawled.conn.execute(
        "INSERT INTO gleaner.crawl_job (tenant_id, source_id, run_id, conf, finished_at)"
        " SELECT tenant_id, source_id, 'old', '{}', now() FROM gleaner.website_source WHERE root_url LIKE 'https:%%'"
    )
    for tenant_id in ("acme", "zulu"):
        crawled.conn.execute(
            "UPDATE gleaner.crawl_job SET started_at = started_at - interval '2 days' WHERE tenant_id = %s",
            (tenant_id,),
        )
    assert due() == ["acme", "zulu", "acme", "acme", "acme"]


def test_the_list_and_what_is_refused(crawled: Tenant, knowledge_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sources.main(["--dsn", knowledge_dsn, "--json", "list"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["tenant"], listed["url"], listed["days"], listed["paused"]) == ("acme", crawled.site.url, 1.0, False)
    assert listed["due"] > listed["crawled"]
    assert sources.main(["--dsn", knowledge_dsn, "list", "acme"]) == 0
    assert f"acme  {crawled.site.url}  every 1 days, crawled " in capsys.readouterr().out
    for arguments, told in (
        (["pause", "acme", "https://other.example/"], "no website https://other.example/"),
        (["every", "acme", crawled.site.url, "soon"], "days"),
        (["every", "acme", crawled.site.url, "0.001"], "hour"),
        (["pause", "zulu", crawled.site.url], "zulu"),
        (["list", "z\udcff"], "no UTF-8"),
    ):
        assert sources.main(["--dsn", knowledge_dsn, *arguments]) == 1
        assert told in capsys.readouterr().err
    assert sources.main(["--dsn", "postgresql://u:not-for-logs@[::1/x", "list"]) == 1  # libpq repeats it whole
    said = capsys.readouterr().err
    assert (said.count("\n"), "not-for-logs" in said, "cannot be reached" in said) == (1, False, True)
    assert due() == []


def test_the_interval_has_its_bounds_in_the_database_too(conn: psycopg.Connection) -> None:
    conn.execute("INSERT INTO gleaner.tenant VALUES ('acme')")
    with pytest.raises(psycopg.errors.CheckViolation):
        conn.execute(
            "INSERT INTO gleaner.website_source (tenant_id, source_id, root_url, refresh_every)"
            " VALUES ('acme', gen_random_uuid(), 'https://x.example/', '1 minute')"
        )
