"""Whole crawls of real servers on loopback, against a real database."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.gleaner.config import IngestRequest
from include.gleaner.crawl.crawler import CrawlOutcome, crawl
from include.gleaner.errors import CrawlError, ForbiddenAddressError, InvalidParamError, StartPageError
from tests.support.website import Raw, Reply, TestWebsite, page

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site() -> Iterator[TestWebsite]:
    with TestWebsite() as website:
        yield website


def run(
    conn: psycopg.Connection, site: TestWebsite, run_id: str = "run-1", path: str = "", **params: Any
) -> CrawlOutcome:
    request = IngestRequest.from_params(
        {"tenant": "acme", "url": site.url + path, "delay_seconds": 0.0, **params},
        {"GLEANER_LOCAL_HOSTS": site.host},
    )
    return crawl(conn, tenant_id="acme", request=impatient(request), run_id=run_id)


def impatient(request: IngestRequest, **policy: Any) -> IngestRequest:
    """The same request with waits that a test can bear."""
    return replace(request, crawl=replace(request.crawl, backoff_seconds=0.02, **policy))


def states(conn: psycopg.Connection, site: TestWebsite) -> dict[str, tuple[str, str | None]]:
    rows = conn.execute("SELECT url, state, reason FROM gleaner.website_page ORDER BY url").fetchall()
    return {url.removeprefix(site.url.rstrip("/")): (state, reason) for url, state, reason in rows}


def job_row(conn: psycopg.Connection) -> tuple[str, str | None]:
    row = conn.execute("SELECT state, reason FROM gleaner.crawl_job ORDER BY job_id DESC LIMIT 1").fetchone()
    assert row is not None
    return row[0], row[1]


def test_everything_in_scope_is_found_and_stored_once(conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes = {
        "/": page(
            "home", "/a", "/b?utm_source=mail", "/b", "/picture.png", "https://elsewhere.example/", "mailto:x@y.z"
        ),
        "/a": page("a", "/c#part", "/old"),
        "/b": page("b", "/a"),
        "/c": page("c"),
        "/old": Reply(status=301, headers={"Location": "/new"}),
        "/new": page("new"),
        "/listed": page("only the sitemap knows me"),
        "/robots.txt": Reply(body=f"User-agent: *\nDisallow: /secret\nSitemap: {site.url}map.xml\n"),
        "/map.xml": f"<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><url><loc>{site.url}listed</loc></url>"
        f"<url><loc>{site.url}secret</loc></url></urlset>",
    }
    outcome = run(conn, site)
    assert states(conn, site) == {
        "/": ("fetched", None),
        "/a": ("fetched", None),
        "/b": ("fetched", None),
        "/c": ("fetched", None),
        "/listed": ("fetched", None),
        "/new": ("fetched", None),
        "/old": ("skipped", "redirect"),
        "/secret": ("skipped", "robots"),
    }
    assert (outcome.state, outcome.found, outcome.visited, outcome.changed, outcome.failed) == ("complete", 8, 8, 6, 0)
    assert max(site.requests.values()) == 1
    assert site.requests["/secret"] == 0
    assert conn.execute("SELECT count(*) FROM gleaner.page_snapshot").fetchone() == (6,)


def test_a_second_crawl_of_an_unchanged_site_stores_nothing(conn: psycopg.Connection, site: TestWebsite) -> None:
    def tagged(headers: Mapping[str, str]) -> Reply:
        if headers.get("If-None-Match") == '"v1"':
            return Reply(status=304)
        return Reply(body=page("home", "/plain"), headers={"ETag": '"v1"'})

    site.routes = {"/": tagged, "/plain": page("plain", "/deep"), "/deep": page("deep")}
    run(conn, site, "run-1")
    before = conn.execute("SELECT page_id, generation, state FROM gleaner.website_page ORDER BY 1").fetchall()
    outcome = run(conn, site, "run-2")
    assert (outcome.changed, outcome.unchanged, outcome.state) == (0, 3, "complete")
    assert conn.execute("SELECT page_id, generation, state FROM gleaner.website_page ORDER BY 1").fetchall() == before
    assert site.seen_headers["/"]["If-None-Match"] == '"v1"'
    site.routes["/deep"] = page("deep, and new")
    outcome = run(conn, site, "run-3")
    assert (outcome.changed, outcome.unchanged) == (1, 2)


def test_missing_pages_need_two_crawls_and_come_back(conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes = {"/": page("home", "/a", "/never"), "/a": page("a")}
    run(conn, site, "run-1")
    assert states(conn, site)["/never"] == ("gone", "http_404")
    del site.routes["/a"]
    missing = "SELECT state, missing_count FROM gleaner.website_page WHERE url LIKE '%/a'"
    run(conn, site, "run-2")
    run(conn, site, "run-2")  # the same run again is no new evidence
    assert conn.execute(missing).fetchone() == ("fetched", 1)
    run(conn, site, "run-3")
    assert conn.execute(missing).fetchone() == ("fetched", 2)
    site.routes["/a"] = page("a")
    run(conn, site, "run-4")
    assert conn.execute(missing).fetchone() == ("fetched", 0)


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


CRAWLER = """
import sys, psycopg
from include.gleaner.config import IngestRequest
from include.gleaner.crawl.crawler import crawl
dsn, url, host = sys.argv[1:]
request = IngestRequest.from_params({"tenant": "acme", "url": url, "delay_seconds": 0.0}, {"GLEANER_LOCAL_HOSTS": host})
with psycopg.connect(dsn, autocommit=True) as conn:
    crawl(conn, tenant_id="acme", request=request, run_id="run-1")
"""


def test_a_killed_crawl_goes_on_where_it_was(knowledge_dsn: str, conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes = {"/": page("home", *[f"/p{n}" for n in range(120)])} | {f"/p{n}": page(f"p{n}") for n in range(120)}
    site.delay = 0.02
    command = [sys.executable, "-c", CRAWLER, knowledge_dsn, site.url, site.host]
    for wanted in (30, 70):
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            row = conn.execute("SELECT count(*) FROM gleaner.website_page WHERE visited_job IS NOT NULL").fetchone()
            if row and row[0] >= wanted:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    outcome = run(conn, site, "run-1")
    assert (outcome.state, outcome.visited, outcome.changed) == ("complete", 121, 121)
    assert {state for state, _ in states(conn, site).values()} == {"fetched"}
    # Each kill costs at most the pages under way: 4 threads, and as many that were done and not written yet.
    pages = [count for path, count in site.requests.items() if path.startswith("/p")]
    assert sum(pages) - 120 <= 2 * (4 + 4)
    assert conn.execute("SELECT count(*) FROM gleaner.page_snapshot").fetchone() == (121,)


def test_tenants_do_not_see_each_other(conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes = {"/": page("home")}
    run(conn, site)
    request = IngestRequest.from_params({"tenant": "other", "url": site.url}, {"GLEANER_LOCAL_HOSTS": site.host})
    crawl(conn, tenant_id="other", request=request, run_id="run-1")
    rows = conn.execute("SELECT tenant_id, count(DISTINCT page_id) FROM gleaner.website_page GROUP BY 1").fetchall()
    assert sorted(rows) == [("acme", 1), ("other", 1)]
    assert conn.execute("SELECT count(DISTINCT page_id) FROM gleaner.website_page").fetchone() == (2,)


def test_loopback_is_refused_without_the_setting(conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes = {"/": page("home")}
    request = IngestRequest.from_params({"tenant": "acme", "url": site.url}, {})
    with pytest.raises(ForbiddenAddressError, match="GLEANER_LOCAL_HOSTS"):
        crawl(conn, tenant_id="acme", request=request, run_id="run-1")
    assert not site.requests


def test_the_canonical_page_of_an_unchanged_page_is_found_again(conn: psycopg.Connection, site: TestWebsite) -> None:
    """It is linked from nowhere else: were it not found, a complete crawl would count it as vanished."""
    head = f'<link rel="canonical" href="{site.url}p">'
    site.routes = {"/": page("home", "/p?ref=home"), "/p?ref=home": page("p", head=head), "/p": page("p!", head=head)}
    run(conn, site, "run-1")
    assert run(conn, site, "run-2").state == "complete"
    jobs = "SELECT count(DISTINCT found_job) FROM gleaner.website_page"
    assert conn.execute(jobs).fetchone() == (1,)


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


def test_crawls_of_one_source_beside_each_other_do_not_lock_each_other_out(
    knowledge_dsn: str, site: TestWebsite
) -> None:
    names = [f"/p{number}" for number in range(80)]
    chance = random.Random(1)
    site.routes = {"/": page("home", *names)} | {name: page(name, *chance.sample(names, 80)) for name in names}

    def crawl_once(number: int) -> str:
        with psycopg.connect(knowledge_dsn, autocommit=True, prepare_threshold=None) as own:
            return run(own, site, f"run-{number}").state

    for first in (0, 3, 6):
        with ThreadPoolExecutor(3) as pool:
            assert set(pool.map(crawl_once, range(first, first + 3))) <= {"complete", "partial"}


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


def test_an_unchanged_page_that_may_no_longer_be_kept(conn: psycopg.Connection, site: TestWebsite) -> None:
    def answer(headers: Mapping[str, str]) -> Reply:
        if "If-None-Match" in headers:
            return Reply(status=304, headers={"X-Robots-Tag": "noindex"})
        return Reply(body=page("a"), headers={"ETag": '"1"'})

    site.routes = {"/": page("home", "/a"), "/a": answer}
    run(conn, site, "run-1")
    run(conn, site, "run-2")
    assert states(conn, site)["/a"] == ("skipped", "noindex")


def test_a_page_whose_stored_bytes_are_lost_is_fetched_whole(conn: psycopg.Connection, site: TestWebsite) -> None:
    def answer(headers: Mapping[str, str]) -> Reply:
        return Reply(status=304) if "If-None-Match" in headers else Reply(body=page("a"), headers={"ETag": '"1"'})

    site.routes = {"/": page("home", "/a"), "/a": answer}
    run(conn, site, "run-1")
    conn.execute("DELETE FROM gleaner.page_snapshot")
    run(conn, site, "run-2")
    assert conn.execute("SELECT count(*) FROM gleaner.page_snapshot").fetchone() == (2,)


def test_a_server_that_changes_its_etag_each_time_is_found_out(conn: psycopg.Connection, site: TestWebsite) -> None:
    numbers = iter(range(100))
    site.routes = {"/": lambda _: Reply(body=page("home"), headers={"ETag": f'"{next(numbers)}"'})}
    run(conn, site, "run-1")
    outcome = run(conn, site, "run-2")
    assert (outcome.changed, outcome.unchanged) == (0, 1)
    assert conn.execute("SELECT count(*) FROM gleaner.page_snapshot").fetchone() == (1,)


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
