"""Gleaner beside LangChain and LlamaIndex: the same pages, web server, endpoint and Postgres, in one run.

Everything is counted for everybody: fetching the pages over HTTP, reading them, cutting, asking for vectors, storing.
Gleaner crawls (it finds the pages by their links); the peers are given all addresses.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from statistics import median

from benchmarks.stand import PROCESSES, Bench, Run, changed_site, ready

Row = tuple[str, str, str, bool]

LEAST_PAGES = 2_000
ROUNDS = 3


def side_by_side() -> Iterator[Row]:
    """Cold, the same again, one per cent changed and one deleted, and an endpoint that says 429 in the middle."""
    yield from _compare(_PEERS)


def alone() -> Iterator[Row]:
    """The same for Gleaner only, which takes two minutes."""
    yield from _compare({})


def volume() -> Iterator[Row]:
    """Memory of the processes that crawl, process and load 2,000 and 20,000 pages, made as they are asked for."""
    peaks: dict[int, Run] = {}
    for pages in (2_000, 20_000):
        with ready(["-m", "benchmarks.site_server", str(pages), "8", "20"]) as bench:
            bench.new_database("gleaner_bench")
            peaks[pages] = bench.gleaner("gleaner_bench", "cold", start="", max_pages=pages)
    for pages, run in peaks.items():
        told = run.told
        yield (
            f"Peak memory of a task, {told['pages']} pages, {told['work']['chunks']} chunks",
            f"{run.peak_mb:.0f} MB ({run.seconds:.0f} s)",
            "≤ 250 MB",
            run.peak_mb <= 250 and told["pages"] >= 0.99 * pages,
        )
    more = peaks[20_000].peak_mb - peaks[2_000].peak_mb
    yield "Ten times the pages need", f"{more:+.0f} MB", "≤ 25 MB more", more <= 25


def _compare(peers: Mapping[str, str]) -> Iterator[Row]:
    with ready() as bench:
        pages = len(bench.pages())
        assert pages >= LEAST_PAGES
        runs = {"Gleaner": _gleaner(bench), **{name: _peer(bench, script) for name, script in peers.items()}}
    for name, cases in runs.items():
        own = name == "Gleaner"
        single, cold, again, changed, limited, after = (cases[case] for case in _CASES)
        per_1000 = single.cpu * 1_000 / pages
        asked = f"{cold.requests} requests, {cold.inputs} inputs"
        yield (
            f"{name}: {pages} pages, cold",
            f"{single.told['seconds']:.1f} s in one process, {per_1000:.1f} CPU-s per 1,000 pages, and"
            f" {single.postgres_cpu * 1_000 / pages:.1f} of Postgres; {asked}",
            "≤ 15 CPU-s" if own else "",
            not own or per_1000 <= 15,
        )
        if own:
            yield (
                f"{name}: the same with {PROCESSES} processes on {os.cpu_count()} cores",
                f"{cold.told['seconds']:.1f} s, {cold.cpu * 1_000 / pages:.1f} CPU-s per 1,000 pages", "", True,
            )  # fmt: skip
            stages = single.told["stages"]
            rest = sum(stages[stage]["cpu"] for stage in stages if stage != "process") * 1_000 / pages
            yield "Gleaner: the same without the main-content step", f"{rest:.1f} CPU-s", "≤ 6 CPU-s", rest <= 6
            stages = cold.told["stages"]
            rate = cold.told["work"]["chunks"] / stages["load"]["seconds"]
            yield (
                f"Gleaner: chunk, vector, stored; {PROCESSES} tasks at once, no HNSW",
                f"{rate:,.0f} chunks/s ({cold.told['work']['chunks']} chunks)", "≥ 1,500", rate >= 1_500,
            )  # fmt: skip
            told = ", ".join(f"{stage} {spent['seconds']:.1f} s" for stage, spent in stages.items())
            yield "Gleaner: seconds by stage", told, "", True
        else:
            rate = cold.told["chunks"] / cold.told["seconds"]
            yield f"{name}: chunks stored", f"{rate:,.0f} chunks/s, everything", "", True
        peak = cold.peak_mb
        yield (
            f"{name}: peak memory of a process at {pages} pages", f"{peak:.0f} MB", "≤ 250 MB" if own else "",
            not own or peak <= 250,
        )  # fmt: skip
        seconds = again.told["seconds"]
        yield (
            f"{name}: the same again",
            f"{seconds:.1f} s ({again.seconds:.1f} s with the start of the process), {again.requests} requests",
            "≤ 3 s, 0" if own else "",
            not own or (seconds <= 3 and again.requests == 0),
        )
        seconds = changed.told["seconds"]
        yield (
            f"{name}: 1 % changed, 1 % deleted",
            f"{seconds:.1f} s ({changed.seconds:.1f} s), {changed.inputs} inputs",
            "≤ 4 s, ≤ 30 inputs" if own else "",
            not own or (seconds <= 4 and changed.inputs <= 30),
        )
        total = limited.inputs + after.inputs
        twice = total - cold.inputs
        yield (
            f"{name}: 429 midway, then again",
            f"{limited.inputs} + {after.inputs} inputs, {limited.limited} refused: {max(0, twice)} paid twice",
            "0 twice" if own else "",
            not own or (twice == 0 and limited.limited > 0 and limited.told["rescheduled"] > 0),
        )


_CASES = ("single", "cold", "again", "changed", "limited", "after")
_PEERS = {"LangChain": "langchain_index.py", "LlamaIndex": "llamaindex_pipeline.py"}


def _gleaner(bench: Bench) -> dict[str, Run]:
    found: list[dict[str, Run]] = []
    for number in range(ROUNDS):
        bench.new_database("gleaner_bench")
        single = bench.gleaner("gleaner_bench", "single", processes=1)
        bench.new_database("gleaner_bench")
        cases = {
            "single": single,
            "cold": bench.gleaner("gleaner_bench", "cold"),
            "again": bench.gleaner("gleaner_bench", "again"),
        }
        with changed_site(bench.site):
            cases["changed"] = bench.gleaner("gleaner_bench", "changed")
        bench.new_database("gleaner_bench")
        cases["limited"] = bench.gleaner("gleaner_bench", "limited", limit_after=8)
        cases["after"] = bench.gleaner("gleaner_bench", "limited")
        found.append(cases)
        print(
            f"  round {number + 1}: {cases['cold'].seconds:.1f} s cold, {single.cpu:.1f} CPU-s in one process",
            flush=True,
        )
    middle = median(cases["single"].cpu for cases in found)
    return next(cases for cases in found if cases["single"].cpu == middle)


def _peer(bench: Bench, script: str) -> dict[str, Run]:
    bench.new_database("peers")
    cold = bench.peer(script)
    cases = {"single": cold, "cold": cold, "again": bench.peer(script)}
    with changed_site(bench.site):
        cases["changed"] = bench.peer(script)
    bench.new_database("peers")
    cases["limited"] = bench.peer(script, limit_after=20)
    cases["after"] = bench.peer(script)
    print(f"  {script}: {cases['cold'].seconds:.1f} s cold, {cases['cold'].cpu:.1f} CPU-s", flush=True)
    return cases
