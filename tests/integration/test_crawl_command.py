"""`python -m include.gleaner.crawl URL...`: one JSON line for each address, as the DAG would see it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.website import Reply, TestWebsite, page

ROOT = Path(__file__).parents[2]


def look_at(site: TestWebsite, *paths: str, local: bool = True) -> tuple[int, list[dict[str, Any]]]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "GLEANER_LOCAL_HOSTS": site.host if local else ""}
    done = subprocess.run(
        [sys.executable, "-m", "include.gleaner.crawl", *(site.url.rstrip("/") + path for path in paths)],
        capture_output=True, text=True, check=False, cwd=ROOT, env=env,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_each_address_is_told_as_a_crawl_would_see_it() -> None:
    home = page("home", "/a", "/b", "https://elsewhere.example/")
    routes = {
        "/": home,
        "/private": "x",
        "/pdf": Reply(body=b"%PDF", headers={"Content-Type": "application/pdf"}),
        "/old": Reply(status=301, headers={"Location": "/older"}),
        "/older": Reply(status=302, headers={"Location": "/"}),
        "/loop": Reply(status=302, headers={"Location": "/pool"}),
        "/pool": Reply(status=302, headers={"Location": "/loop"}),
        "/500": Reply(status=500),
        "/robots.txt": "User-agent: *\nDisallow: /private",
    }
    with TestWebsite(routes) as site:
        code, told = look_at(site, "/", "/old", "/private", "/pdf", "/missing", "/500", "/loop")
        assert code == 1
        assert [(line["state"], line["reason"]) for line in told] == [
            ("fetched", None), ("fetched", None), ("skipped", "robots"), ("skipped", "content_type"),
            ("gone", "http_404"), ("failed", "http_500"), ("failed", "too_many_redirects"),
        ]  # fmt: skip
        first, redirected = told[0], told[1]
        assert first["sha256"] == redirected["sha256"] == hashlib.sha256(home.encode()).hexdigest()
        assert (first["bytes"], first["links"], first["robots"]) == (len(home), 3, "allowed")
        assert (redirected["final_url"], redirected["redirects"]) == (site.url, 2)
        assert told[2]["robots"] == "disallowed"
        assert site.requests["/private"] == 0
        assert look_at(site, "/")[0] == 0


def test_loopback_needs_the_setting() -> None:
    with TestWebsite({"/": "home"}) as site:
        code, told = look_at(site, "/", local=False)
        assert code == 1
        assert told[0]["reason"] == "forbidden_address"
        assert not site.requests
