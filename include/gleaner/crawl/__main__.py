"""Fetches single pages as a crawl would, and says what came of each: for people who debug one page.

    python -m include.gleaner.crawl https://example.com/a https://example.com/b

Prints one JSON object a line: url, final_url, redirects, state, reason, status, content_type, bytes, sha256, links,
canonical, robots. Nothing is stored. Hosts on loopback need GLEANER_LOCAL_HOSTS, as everywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Final

from include.gleaner.config import CrawlPolicy, local_hosts
from include.gleaner.crawl.client import Client
from include.gleaner.crawl.fetcher import Fetcher
from include.gleaner.crawl.records import Due, Visit
from include.gleaner.crawl.seeds import SiteRules
from include.gleaner.crawl.throttle import MemoryStore, Throttle
from include.gleaner.crawl.urls import canonicalize
from include.gleaner.crawl.visit import visit_page

# What the row of website_page would say.
_STATES: Final = {
    "content": "fetched",
    "unchanged": "fetched",
    "skipped": "skipped",
    "missing": "gone",
    "fault": "failed",
    "not_asked": "discovered",
}


def look_at(urls: Sequence[str], policy: CrawlPolicy) -> Iterator[dict[str, Any]]:
    """What a crawl with this policy would make of each address, its redirects followed."""
    throttle = Throttle(
        MemoryStore(),
        delay=policy.delay_seconds,
        concurrency=policy.concurrency,
        first_penalty=policy.backoff_seconds,
        patience=policy.patience_seconds,
    )
    with closing(throttle), Client(policy) as client:
        fetcher = Fetcher(client, throttle, policy)
        rules = SiteRules(fetcher, policy)
        for url in urls:
            address = canonicalize(url)
            if address is None:
                yield {"url": url, "state": "failed", "reason": "invalid_url"}
                continue
            seen = [address]
            visit = _visit(address, fetcher, rules, policy)
            while visit.reason == "redirect" and visit.alias_of and len(seen) <= policy.max_redirects:
                if visit.alias_of in seen:
                    break
                seen.append(visit.alias_of)
                visit = _visit(visit.alias_of, fetcher, rules, policy)
            yield _told(url, seen, visit, rules)


def _visit(url: str, fetcher: Fetcher, rules: SiteRules, policy: CrawlPolicy) -> Visit:
    page = Due(
        page_id=uuid.UUID(int=0), url=url, depth=0, hops=0, etag=None, last_modified=None, content_hash=None,
        is_current=False,
    )  # fmt: skip
    return visit_page(page, fetcher=fetcher, rules=rules, policy=policy)


def _told(url: str, seen: Sequence[str], visit: Visit, rules: SiteRules) -> dict[str, Any]:
    robots = rules.of(seen[-1])
    looping = visit.reason == "redirect"
    return {
        "url": url,
        "final_url": seen[-1],
        "redirects": len(seen) - 1,
        "state": "failed" if looping else _STATES[visit.kind],
        "reason": "too_many_redirects" if looping else visit.reason,
        "status": visit.status,
        "content_type": visit.content_type,
        "bytes": visit.raw_bytes,
        "sha256": visit.content_hash.hex() or None,
        "links": len(visit.links),
        "canonical": visit.alias_of if visit.reason == "canonical" else None,
        "robots": "unreachable" if robots is None else "allowed" if robots.allows(seen[-1]) else "disallowed",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every address gave content, else 1."""
    parser = argparse.ArgumentParser(prog="python -m include.gleaner.crawl", description=__doc__.split("\n")[0])
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--attempts", type=int, default=1, help="tries per address (1)")
    options = parser.parse_args(arguments)
    policy = CrawlPolicy(attempts=max(1, options.attempts), local_hosts=local_hosts(os.environ))
    fine = True
    for told in look_at(options.urls, policy):
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
        sys.stdout.flush()
        fine = fine and told["state"] == "fetched"
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
