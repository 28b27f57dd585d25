"""Pages, servers and files that fail: each costs itself only, and what is stored stays."""

from __future__ import annotations

import gzip
import time
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest

from include.gleaner.config import IngestRequest
from include.gleaner.crawl import seeds, visit
from include.gleaner.crawl.crawler import crawl
from include.gleaner.crawl.links import PageHead, read_head
from include.gleaner.crawl.sitemap import Sitemap, parse_sitemap
from include.gleaner.errors import CrawlError, ForbiddenAddressError, StartPageError
from tests.support.crawling import impatient, job_row, run, states
from tests.support.website import Raw, Reply, TestWebsite, page


def test_one_bad_page_costs_itself_only(conn: psycopg.Connection, site: TestWebsite) -> None:
    bomb = gzip.compress(b"<p>" + b"0" * 30_000_000)
    site.routes = {
        "/": page("home", "/500", "/bomb", "/cut", "/loop", "/chain/0", "/pdf", "/hidden", "/good", "/garbled"),
        "/500": Reply(status=500),
        "/bomb": Reply(body=bomb, headers={"Content-Encoding": "gzip"}),
        "/cut": Reply(body="<p>half", length=5_000),
        "/loop": Reply(status=302, headers={"Location": "/loop"}),
        "/pdf": Reply(body=b"%PDF", headers={"Content-Type": "application/pdf"}),
        "/hidden": Reply(body=page("hidden"), headers={"X-Robots-Tag": "noindex"}),
        "/garbled": Reply(body="no gzip", headers={"Content-Encoding": "gzip"}),
        "/good": page("good"),
        **{f"/chain/{n}": Reply(status=302, headers={"Location": f"/chain/{n + 1}"}) for n in range(50)},
    }
    outcome = run(conn, site)
    found = states(conn, site)
    assert found["/good"] == ("fetched", None)
    assert found["/500"] == ("failed", "http_500")
    assert found["/bomb"] == ("failed", "too_large")
    assert found["/cut"] == ("failed", "cut_off")
    assert found["/garbled"] == ("failed", "bad_encoding")
    assert found["/loop"] == ("failed", "bad_redirect")
    assert found["/pdf"] == ("skipped", "content_type")
    assert found["/hidden"] == ("skipped", "noindex")
    assert found["/chain/5"] == ("failed", "too_many_redirects")
    assert "/chain/6" not in found
    assert (outcome.state, outcome.failed) == ("partial", 6)
    letters = dict(conn.execute("SELECT reason, count(*) FROM gleaner.dead_letter GROUP BY 1").fetchall())
    assert letters == {
        "http_500": 1, "too_large": 1, "cut_off": 1, "bad_encoding": 1, "bad_redirect": 1, "too_many_redirects": 1,
    }  # fmt: skip
    site.routes["/500"] = page("well again")
    run(conn, site, "run-2")
    row = conn.execute("SELECT resolved_at IS NOT NULL FROM gleaner.dead_letter WHERE reason = 'http_500'").fetchone()
    assert row == (True,)
    assert states(conn, site)["/500"] == ("fetched", None)


def test_a_page_that_trips_the_reader_costs_itself_only(
    conn: psycopg.Connection, site: TestWebsite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trip(body: bytes, *arguments: Any, **named: Any) -> PageHead:
        if b"stone" in body:
            raise RecursionError("of a fault that nobody knows yet, with " + body.decode())
        return read_head(body, *arguments, **named)

    monkeypatch.setattr(visit, "read_head", trip)
    site.routes = {"/": page("home", "/a", "/b"), "/a": page("stone"), "/b": page("fine")}
    outcome = run(conn, site)
    assert states(conn, site) == {"/": ("fetched", None), "/a": ("failed", "unreadable"), "/b": ("fetched", None)}
    assert (outcome.state, outcome.failed) == ("partial", 1)


def test_a_page_that_takes_forever_to_read_costs_itself_only(
    conn: psycopg.Connection, site: TestWebsite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "LONGEST_READ", 0.2)
    # Each end is looked for among all that is open.
    site.routes = {"/": page("home", "/a", "/b"), "/a": "<i>" * 400_000 + "</b>" * 400_000, "/b": page("fine")}
    assert run(conn, site).failed == 1
    assert states(conn, site) == {"/": ("fetched", None), "/a": ("failed", "unreadable"), "/b": ("fetched", None)}


def test_a_sitemap_that_trips_the_reader_costs_itself_only(
    conn: psycopg.Connection, site: TestWebsite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trip(body: bytes, *, url: str) -> Sitemap:
        if b"stone" in body:
            raise RecursionError("of a fault that nobody knows yet")
        return parse_sitemap(body, url=url)

    monkeypatch.setattr(seeds, "parse_sitemap", trip)
    names = "".join(f"Sitemap: {site.url}{name}.xml\n" for name in ("one", "two", "three"))
    site.routes = {
        "/": page("home"),
        "/robots.txt": names,
        "/one.xml": "<urlset><url><loc>stone</loc></url></urlset>",
        "/two.xml": "<urlset><url><loc>/a</loc><image:image><image:loc>/i</image:loc></image:image></url></urlset>",
        "/three.xml": "<xmlns:urlset><url:><loc>/b</loc></url:></xmlns:urlset>",
        "/a": page("a"),
    }
    assert run(conn, site).state == "partial"
    assert job_row(conn)[1] == "1 sitemaps could not be read"
    assert states(conn, site) == {"/": ("fetched", None), "/a": ("fetched", None)}


def test_slow_sitemaps_leave_time_for_pages(conn: psycopg.Connection, site: TestWebsite) -> None:
    def slow(_: Mapping[str, str]) -> str:
        time.sleep(0.5)
        return "<urlset><url><loc>/a</loc></url></urlset>"

    numbers = range(40)
    site.routes = {
        "/": page("home"),
        "/robots.txt": "".join(f"Sitemap: {site.url}{number}.xml\n" for number in numbers),
        **{f"/{number}.xml": slow for number in numbers},
        "/a": page("a"),
    }
    request = IngestRequest.from_params(
        {"tenant": "acme", "url": site.url, "delay_seconds": 0.0}, {"GLEANER_LOCAL_HOSTS": site.host}
    )
    crawl(conn, tenant_id="acme", request=impatient(request, time_budget_seconds=8.0), run_id="run-1")
    assert states(conn, site)["/a"] == ("fetched", None)
    assert job_row(conn) == ("partial", "1 sitemaps could not be read")
    assert not site.requests["/39.xml"]


def test_a_fault_does_not_touch_what_is_stored(conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes = {"/": page("home", "/a"), "/a": page("a")}
    run(conn, site, "run-1")
    site.routes["/a"] = Reply(status=503)
    outcome = run(conn, site, "run-2")
    assert states(conn, site)["/a"] == ("fetched", None)
    assert (outcome.state, outcome.failed) == ("partial", 1)


@pytest.mark.parametrize(
    ("routes", "reason"),
    [
        ({"/": Reply(status=500)}, "http_500"),
        ({"/": Reply(status=404)}, "http_404"),
        ({"/": page("x"), "/robots.txt": "User-agent: *\nDisallow: /"}, "does not let Gleaner in"),
        ({"/": page("x"), "/robots.txt": Reply(status=503)}, "robots.txt"),
        ({"/": Reply(body=b"\x89PNG", headers={"Content-Type": "image/png"})}, "content_type"),
        ({"/": Reply(status=301, headers={"Location": "http://10.0.0.1/"})}, "forbidden_address"),
    ],
)
def test_without_its_start_page_a_crawl_fails_and_can_be_tried_again(
    conn: psycopg.Connection, site: TestWebsite, routes: dict[str, Any], reason: str
) -> None:
    site.routes = routes
    with pytest.raises(CrawlError, match=reason) as caught:
        run(conn, site)
    assert isinstance(caught.value, ForbiddenAddressError) is (reason == "forbidden_address")
    assert job_row(conn)[0] == "failed"
    site.routes = {"/": page("x", "/y"), "/y": page("y")}
    assert run(conn, site).state == "complete"


def test_a_circle_of_redirects_is_a_fault(conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes = {
        "/": page("home", "/a"),
        "/a": Reply(status=302, headers={"Location": "/b"}),
        "/b": Reply(status=302, headers={"Location": "/a"}),
    }
    outcome = run(conn, site, "run-1")
    assert (outcome.state, outcome.failed) == ("partial", 1)
    site.routes["/"] = Reply(status=302, headers={"Location": "/x"})
    site.routes["/x"] = Reply(status=302, headers={"Location": "/"})
    with pytest.raises(StartPageError, match="redirect_loop"):
        run(conn, site, "run-2")


def test_a_cut_sitemap_makes_the_crawl_partial_and_a_refused_one_that_nobody_named_does_not(
    conn: psycopg.Connection, site: TestWebsite
) -> None:
    site.routes = {"/": page("home"), "/sitemap.xml": Reply(status=403)}
    assert run(conn, site, "run-1").state == "complete"
    site.routes["/sitemap.xml"] = f"<urlset><url><loc>{site.url}a</loc></url><url><loc>{site.url}b"
    assert run(conn, site, "run-2").state == "partial"
    site.routes["/robots.txt"] = f"Sitemap: {site.url}map.xml"
    site.routes["/map.xml"] = Reply(status=403)
    assert run(conn, site, "run-3").state == "partial"


def test_headers_that_cannot_be_stored_and_encodings_nobody_asked_for(
    conn: psycopg.Connection, site: TestWebsite
) -> None:
    site.routes = {
        "/": page("home", "/odd", "/br"),
        "/odd": Reply(body=page("odd"), headers={"ETag": '"a\x00b"', "Last-Modified": "\x01"}),
        "/br": Reply(body=b"\x8b\x02\x80", headers={"Content-Encoding": "br"}),
    }
    run(conn, site)
    assert states(conn, site)["/odd"] == ("fetched", None)
    assert states(conn, site)["/br"] == ("failed", "bad_encoding")


def test_robots_txt_of_any_kind(conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes = {"/": page("home", "/a"), "/a": page("a")}
    kinds: list[Any] = [
        Reply(status=401), Reply(status=403), Reply(status=404), Reply(status=410), "<html><body>None</body></html>",
        b"\xef\xbb\xbfUser-agent: *\nDisallow: /b", b"\xff\x00\x01" * 1_000, "x" * 2_000_000,
        Reply(status=301, headers={"Location": "/rules.txt"}), Reply(status=301, headers={"Location": "/robots.txt"}),
        gzip.compress(b"nonsense"), Reply(body=gzip.compress(b"User-agent: *"), headers={"Content-Encoding": "gzip"}),
    ]  # fmt: skip
    for number, kind in enumerate(kinds):
        site.routes["/robots.txt"] = kind
        assert run(conn, site, f"run-{number}").visited == 2, kind
    for kind in (Reply(status=500), Reply(status=503), Reply(status=429), Raw(b""), Reply(body=b"x", length=900)):
        site.routes["/robots.txt"] = kind
        site.requests.clear()
        with pytest.raises(StartPageError, match=r"robots\.txt|patience"):
            run(conn, site, "run-shut")
        assert set(site.requests) == {"/robots.txt"}
