"""What belongs to a crawl, how much of it is taken, and what comes first."""

from __future__ import annotations

import psycopg
import pytest

from include.gleaner.config import IngestRequest
from include.gleaner.crawl.crawler import crawl
from include.gleaner.errors import ForbiddenAddressError, InvalidParamError
from tests.support.crawling import job_row, run, states
from tests.support.website import Reply, TestWebsite, page


def test_the_limits_make_the_crawl_partial_and_the_same_pages_every_time(
    conn: psycopg.Connection, site: TestWebsite
) -> None:
    site.routes = {"/": page("home", *[f"/p{n:02}" for n in range(30)])} | {
        f"/p{n:02}": page(f"p{n}", f"/deep{n}") for n in range(30)
    }
    outcome = run(conn, site, max_pages=10)
    assert job_row(conn) == ("partial", "max_pages")
    fetched = sorted(url for url, (state, _) in states(conn, site).items() if state == "fetched")
    assert fetched == ["/", *[f"/p{n:02}" for n in range(9)]]
    assert outcome.visited == 10
    assert sum(site.requests[f"/p{n:02}"] for n in range(30)) == 9
    outcome = run(conn, site, "run-2", max_depth=1)
    assert job_row(conn) == ("partial", "max_depth")
    assert not any(site.requests[f"/deep{n}"] for n in range(30))


def test_patterns_folder_and_canonical_addresses(conn: psycopg.Connection, site: TestWebsite) -> None:
    canonical = f'<link rel="canonical" href="{site.url}docs/a">'
    lost = f'<link rel="canonical" href="{site.url}docs/missing">'
    site.routes = {
        "/docs/": page("home", "a", "a?print=1", "b", "private/x", "/outside"),
        "/docs/a": page("a", head=canonical),
        "/docs/a?print=1": page("a for the printer", head=canonical),
        "/docs/b": page("b", head=lost),
        "/docs/private/x": page("x"),
        "/outside": page("outside"),
    }
    run(conn, site, path="docs/", exclude_patterns=["/private/"])
    found = states(conn, site)
    assert found["/docs/a?print=1"] == ("skipped", "canonical")
    assert found["/docs/a"] == ("fetched", None)
    assert "/outside" not in found
    assert "/docs/private/x" not in found


def test_loopback_is_refused_without_the_setting(conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes = {"/": page("home")}
    request = IngestRequest.from_params({"tenant": "acme", "url": site.url}, {})
    with pytest.raises(ForbiddenAddressError, match="GLEANER_LOCAL_HOSTS"):
        crawl(conn, tenant_id="acme", request=request, run_id="run-1")
    assert not site.requests


def test_a_long_sitemap_is_bounded_by_the_limit_of_pages(conn: psycopg.Connection, site: TestWebsite) -> None:
    entries = "".join(f"<url><loc>{site.url}item/{number}</loc></url>" for number in range(5_000))
    site.routes = {"/": page("home"), "/sitemap.xml": f"<urlset>{entries}</urlset>"}
    run(conn, site, max_pages=3)
    assert conn.execute("SELECT count(*) FROM gleaner.website_page").fetchone() == (4,)
    assert job_row(conn)[0] == "partial"


def test_redirects_do_not_count_as_pages_but_end_somewhere(conn: psycopg.Connection, site: TestWebsite) -> None:
    moved = {f"/r{number}": Reply(status=301, headers={"Location": "/end"}) for number in range(500)}
    site.routes = {"/": page("home", *moved), "/end": page("end")} | moved
    run(conn, site, max_pages=2)
    assert sum(site.requests.values()) < 200
    assert job_row(conn)[0] == "partial"


def test_a_start_folder_that_redirects_to_another_does_not_open_the_whole_host(
    conn: psycopg.Connection, site: TestWebsite
) -> None:
    site.routes = {
        "/docs/": Reply(status=301, headers={"Location": "/manual/"}),
        "/manual/": page("manual", "/manual/a", "/docs/b", "/shop/c", "/"),
        "/manual/a": page("a"),
        "/docs/b": page("b"),
    }
    run(conn, site, path="docs/")
    assert set(states(conn, site)) == {"/docs/", "/manual/", "/manual/a", "/docs/b"}


def test_the_best_pages_come_first(conn: psycopg.Connection, site: TestWebsite) -> None:
    entries = [("old", 0.5, "2020-01-01"), ("new", 0.5, "2026-01-01"), ("best", 0.9, ""), ("worst", 0.1, "2026-02-02")]
    listed = "".join(
        f"<url><loc>{site.url}{name}</loc><priority>{priority}</priority><lastmod>{day}</lastmod></url>"
        for name, priority, day in entries
    )
    site.routes = {"/": page("home", "/a-link", "/b?x=1", "/c?x=1&y=2"), "/sitemap.xml": f"<urlset>{listed}</urlset>"}
    site.routes |= {f"/{name}": page(name) for name, _, _ in entries}
    site.routes |= {path: page(path) for path in ("/a-link", "/b?x=1", "/c?x=1&y=2")}
    order = ["/", "/best", "/new", "/old", "/worst", "/a-link", "/b?x=1", "/c?x=1&y=2"]
    for number in range(2, 9):
        site.requests.clear()
        run(conn, site, f"run-{number}", max_pages=number)
        assert {path for path in site.requests if "." not in path} == set(order[:number])


def test_a_family_does_not_crowd_out_others(conn: psycopg.Connection, site: TestWebsite) -> None:
    numbers = [f"/a-{number}" for number in range(200)]
    others = ["/x/one", "/y/two", "/z/three"]
    site.routes = {"/": page("home", *numbers, *others)} | {path: page(path) for path in [*numbers, *others]}
    run(conn, site, max_pages=20)
    assert all(states(conn, site)[path] == ("fetched", None) for path in others)


def test_a_tenants_pattern_that_takes_for_ever_is_refused(conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes = {"/": page("home", "/" + "a" * 60 + "!"), "/" + "a" * 60 + "!": page("a")}
    with pytest.raises(InvalidParamError, match=r"exclude_patterns.*takes too long"):
        run(conn, site, exclude_patterns=["/(a|a|aa)*$"])
