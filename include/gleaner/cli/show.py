"""What the commands print."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console

from include.gleaner.local.console import excerpt
from include.gleaner.report.run_report import lines
from include.gleaner.search import Hit

CONSOLE: Final = Console(soft_wrap=True, highlight=False, markup=False)


def status(found: Mapping[str, Any], *, as_json: bool) -> None:
    """A run: its state, its tasks by state, and its report."""
    if as_json:
        document(found)
        return
    CONSOLE.print(f"{found['dag']} {found['run_id']}: {found['state']}")
    for task_id, states in found["tasks"].items():
        CONSOLE.print(f"  {task_id}: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    report = found["report"]
    if report and "crawl" in report:
        for name, text in lines(report):
            CONSOLE.print(f"  {name}: {text}")
    elif report:
        CONSOLE.print(f"  report: {json.dumps(report, ensure_ascii=False)}")


def hits(found: Sequence[Hit], *, as_json: bool) -> None:
    """Search results, the best first."""
    if as_json:
        document([asdict(hit) for hit in found])
        return
    for number, hit in enumerate(found, 1):
        CONSOLE.print(
            f"{number}. {hit.section_title} ({hit.score:.3f})\n   {excerpt(hit.full_text)}\n   {hit.page_url}"
        )
    if not found:
        CONSOLE.print("nothing found")


def backfill(answer: Mapping[str, Any], *, dry_run: bool, as_json: bool) -> None:
    """A backfill that was begun, or the days that it would be."""
    if as_json:
        document(answer)
    elif dry_run:
        days = [item["logical_date"] for item in answer["backfills"]]
        CONSOLE.print(f"{len(days)} days: {', '.join(str(day)[:10] for day in days)}")
    else:
        CONSOLE.print(f"backfill {answer['id']} of {answer['from_date'][:10]} to {answer['to_date'][:10]} is under way")


def failures(found: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Unmended failures."""
    if as_json:
        document(found)
        return
    for row in found:
        what = " ".join(filter(None, (row["stage"], row["url"], row["item"])))
        reason = " ".join(filter(None, (row["reason"], row["detail"])))
        CONSOLE.print(f"{what}: {reason} (tried {row['attempts']} times, last {row['last']:%Y-%m-%d %H:%M})")
    if not found:
        CONSOLE.print("no failures")


def replay(count: int, run_id: str | None, *, as_json: bool) -> None:
    """How many failures are tried again, and by which run."""
    if as_json:
        document({"failures": count, "run_id": run_id})
    else:
        CONSOLE.print(f"{count} failures are tried again by {run_id}" if count else "no failures to try again")


def problem(text: str) -> None:
    """One line about what is wrong."""
    sys.stderr.write(f"gleaner: {text.splitlines()[0]}\n")


def document(found: object) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=2, default=str) + "\n")
