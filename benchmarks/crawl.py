"""Measures the crawl: its speed, its politeness, its memory. Real crawls in processes of their own, a real Postgres."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from include.gleaner.local.postgres import EmbeddedPostgres, standalone
from include.gleaner.ops.migrate import migrate

ROOT = Path(__file__).parents[1]
ROUNDS = 5
PACE_SECONDS = 12.0  # longer where many runs share a slow pace
Row = tuple[str, str, str, bool]


def speed() -> Iterator[Row]:
    """2,000 pages of 20 KB with 60 links each, no delay, the crawl on a core of its own; then the same, unchanged."""
    rates: dict[str, list[float]] = {"new": [], "unchanged": []}
    costs: dict[str, list[float]] = {"new": [], "unchanged": []}
    with _postgres() as server, _site(2_000, 20, 60) as url:
        for number in range(ROUNDS):
            dsn = _database(server, f"speed_{number}")
            for kind in rates:
                told = _ended(_crawl(dsn, url, run_id=kind, core=0))
                assert (told["state"], told["pages"]) == ("complete", 2_001), told
                rates[kind].append(told["pages"] / told["seconds"])
                costs[kind].append(1_000 * told["cpu"] / told["pages"])
    rate, cost = statistics.median(rates["new"]), statistics.median(costs["new"])
    yield "Pages fetched and stored with their links, one core", f"{rate:.0f} pages/s", "≥ 250 pages/s", rate >= 250
    yield "CPU of it", f"{cost:.2f} ms a page", "≤ 3 ms", cost <= 3
    rate, cost = statistics.median(rates["unchanged"]), statistics.median(costs["unchanged"])
    yield "The same pages again, unchanged", f"{rate:.0f} pages/s, {cost:.2f} ms CPU a page", "", True


def pace() -> Iterator[Row]:
    """1, 2 and 8 crawls at once, of as many tenants, on one host: when its server got the requests."""
    for delay, runs in itertools.product((0.5, 0.1), (1, 2, 8)):
        with _postgres() as server, _site(5_000, 4, 60) as url:
            dsn = _database(server, "pace")
            started = [
                _crawl(
                    dsn,
                    url,
                    tenant=f"tenant-{number}",
                    delay=delay,
                    max_pages=2_000,
                    seconds=max(PACE_SECONDS, 10 * runs * delay),
                )
                for number in range(runs)
            ]
            pages = [_ended(process)["pages"] for process in started]
            with urllib.request.urlopen(f"{url}__stats") as answer:
                arrivals = sorted(json.load(answer))
        # The last second is left out: there the crawls end, not all at once.
        arrivals = [at for at in arrivals if at < arrivals[-1] - 1.0]
        gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
        share = delay / statistics.fmean(gaps)
        fits = 0.95 <= share <= 1.0
        measured = (
            f"{share:.3f} of the pace, smallest gap {min(gaps) / delay:.3f}, {min(pages)} to {max(pages)} pages a run"
        )
        yield f"{runs} runs on one host, {delay:g} s between requests", measured, "0.95 to 1", fits


def memory() -> Iterator[Row]:
    """Peak memory of a crawl of 2,000 pages and of 20,000."""
    peaks = {}
    with _postgres() as server:
        for pages in (2_000, 20_000):
            with _site(pages, 4, 30) as url:
                told = _ended(_crawl(_database(server, f"memory_{pages}"), url, max_pages=50_000))
                assert told["pages"] == pages + 1, told
                peaks[pages] = told["peak_mb"]
    more = peaks[20_000] - peaks[2_000]
    measured = f"{peaks[20_000]:.0f} MB and {peaks[2_000]:.0f} MB, {more:.0f} MB more"
    yield "Peak memory, 20,000 and 2,000 pages", measured, "≤ 40 MB more", more <= 40


@contextmanager
def _postgres() -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory() as folder:
        server, processes = standalone(Path(folder))
        try:
            server.start()
            yield server
        finally:
            processes.close()


def _database(server: EmbeddedPostgres, name: str) -> str:
    server.create_database(name)
    migrate(server.dsn(name))
    return server.dsn(name)


@contextmanager
def _site(pages: int, kilobytes: int, links: int) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.site_server", str(pages), str(kilobytes), str(links)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/"
        finally:
            process.stdin.close()
            process.wait()


def _crawl(
    dsn: str, url: str, *, tenant: str = "bench", run_id: str = "run", delay: float = 0.0, max_pages: int = 10_000,
    seconds: float = 3_000.0, core: int | None = None,
) -> subprocess.Popen[str]:  # fmt: skip
    arguments = [dsn, url, tenant, run_id, str(delay), str(max_pages), str(seconds)]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.crawl_once", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    return process


def _ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a crawl ended with code {process.returncode}")
    told: dict[str, Any] = json.loads(out)
    return told
