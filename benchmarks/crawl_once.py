"""One crawl in a process of its own, for measurements: prints what it cost as JSON.

python -m benchmarks.crawl_once DSN URL TENANT RUN_ID DELAY MAX_PAGES SECONDS
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import replace
from urllib.parse import urlsplit

import psycopg

from include.gleaner.config import IngestRequest
from include.gleaner.crawl.crawler import crawl


def main(dsn: str, url: str, tenant: str, run_id: str, delay: str, max_pages: str, seconds: str) -> None:
    """Crawl and print."""
    request = IngestRequest.from_params(
        {"tenant": tenant, "url": url, "delay_seconds": float(delay), "max_pages": int(max_pages), "max_depth": 100},
        {"GLEANER_LOCAL_HOSTS": urlsplit(url).netloc},
    )
    request = replace(request, crawl=replace(request.crawl, time_budget_seconds=float(seconds)))
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as conn:
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        outcome = crawl(conn, tenant_id=tenant, request=request, run_id=run_id)
        spent, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = {"state": outcome.state, "pages": outcome.visited, "changed": outcome.changed, "seconds": spent, "cpu": cpu,
            "peak_mb": after.ru_maxrss / 1024}  # fmt: skip
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:8])
