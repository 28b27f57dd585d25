"""How far a batch and its run are, told in the log: a sentence for people, with the same as fields for machines."""

from __future__ import annotations

from typing import Any, Final

import psycopg
import structlog

from include.gleaner.sql import queries

_DONE: Final = {"process": "processed", "load": "loaded", "estimate": "counted"}


def pace_of(done: int, of: int, seconds: float) -> tuple[float, float]:
    """(pages a second, seconds left); both 0 when nothing can be told yet."""
    rate = done / seconds if seconds > 0 else 0.0
    return rate, (max(of - done, 0) / rate if rate else 0.0)


def sentence(done: int, of: int, seconds: float, what: str) -> str:
    """Such as "50/200 pages processed, 4.1 pages/s, about 37 s left"."""
    rate, left = pace_of(done, of, seconds)
    ahead = f", about {left:.0f} s left" if done < of and rate else ""
    return f"{done}/{of} pages {what}, {rate:.1f} pages/s{ahead}"


def tell_batch(label: str, stage: str, *, done: int, of: int, seconds: float, **more: Any) -> None:
    """One line of the batch's own progress."""
    _tell(label, stage, done, of, seconds, more)


def tell_run(conn: psycopg.Connection, *, tenant_id: str, job_id: int, stage: str) -> None:
    """One line of the whole run's progress in a stage, over all its workers; nothing when it has no plan."""
    key = {"tenant_id": tenant_id, "job_id": job_id, "stage": stage}
    row = conn.execute(queries("report")["stage_progress"], key).fetchone()
    if row is not None and row[1]:
        done, of, seconds = row
        _tell("run", stage, min(done, of), of, seconds, {})


def _tell(label: str, stage: str, done: int, of: int, seconds: float, more: dict[str, Any]) -> None:
    rate, left = pace_of(done, of, seconds)
    structlog.get_logger(__name__).info(
        f"{label}: {sentence(done, of, seconds, _DONE.get(stage, 'done'))}",
        stage=stage, done=done, of=of, pages_per_second=round(rate, 2), seconds_left=round(left, 1), **more,
    )  # fmt: skip
