"""How far a batch and its run are, told in the log: a sentence for people, with the same as fields for machines."""

from __future__ import annotations

from typing import Any, Final

import psycopg
import structlog

from include.gleaner.models import Batch
from include.gleaner.sql import queries

_SECONDS_APART: Final = 1.0
_DONE: Final = {"process": "processed", "load": "loaded", "estimate": "counted"}


def pace_of(done: int, of: int, seconds: float, *, now: int | None = None) -> tuple[float, float]:
    """(pages a second, seconds left); both 0 when nothing can be told yet.

    `now` is how many of the pages were done in these seconds, when earlier tries have done some before.
    """
    rate = (done if now is None else now) / seconds if seconds > 0 else 0.0
    return rate, (max(of - done, 0) / rate if rate else 0.0)


def sentence(done: int, of: int, seconds: float, what: str, *, now: int | None = None) -> str:
    """Such as "50/200 pages processed, 4.1 pages/s, about 37 s left"; without a pace when these seconds did nothing."""
    rate, left = pace_of(done, of, seconds, now=now)
    pace = "" if now == 0 else f", {rate:.1f} pages/s"
    ahead = f", about {left:.0f} s left" if done < of and rate else ""
    return f"{done}/{of} pages {what}{pace}{ahead}"


class BatchPace:
    """Lines of a batch's own progress, one a second at most, whatever the number of its groups; the last is told."""

    def __init__(self, batch: Batch, stage: str) -> None:
        self._batch, self._stage = batch, stage
        self._told_at = -_SECONDS_APART
        self._withheld: tuple[int, float, int, dict[str, Any]] | None = None

    def tell(self, *, done: int, now: int, seconds: float, **more: Any) -> None:
        """Pages that are done, those of them that were done in these seconds, and what else is to be told."""
        self._withheld = (min(done, self._batch.pages), seconds, now, more)
        if seconds - self._told_at >= _SECONDS_APART:
            self.tell_last()

    def tell_last(self) -> None:
        """What was not told since it was too soon, if there is any."""
        if self._withheld is not None:
            done, self._told_at, now, more = self._withheld
            _tell(self._batch.label, self._stage, done, self._batch.pages, self._told_at, now, more)
            self._withheld = None


def tell_nothing_left(batch: Batch, stage: str) -> None:
    """One line of a batch that is run again and finds that an earlier try, or another run, has done it all."""
    structlog.get_logger(__name__).info(
        f"{batch.label}: nothing is left to do, no page of it waits to be {_DONE[stage]}",
        stage=stage, done=batch.pages, of=batch.pages,
    )  # fmt: skip


def tell_run(conn: psycopg.Connection, *, tenant_id: str, job_id: int, stage: str) -> None:
    """One line of the whole run's progress in a stage, over all its workers; nothing when it has no plan."""
    key = {"tenant_id": tenant_id, "job_id": job_id, "stage": stage}
    row = conn.execute(queries("report")["stage_progress"], key).fetchone()
    if row is not None and row[2]:
        done, now, of, seconds = row
        _tell("run", stage, min(done, of), of, seconds, now, {})


def _tell(label: str, stage: str, done: int, of: int, seconds: float, now: int, more: dict[str, Any]) -> None:
    rate, left = pace_of(done, of, seconds, now=now)
    structlog.get_logger(__name__).info(
        f"{label}: {sentence(done, of, seconds, _DONE.get(stage, 'done'), now=now)}",
        stage=stage, done=done, of=of, pages_per_second=round(rate, 2), seconds_left=round(left, 1), **more,
    )  # fmt: skip
