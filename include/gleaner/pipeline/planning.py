"""Decides what a run has to do: aliases are set aside, the rest is cut into batches."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg

from include.gleaner.config import MAX_BATCHES, RunPolicy
from include.gleaner.models import Batch
from include.gleaner.pipeline.canonicals import judge_canonicals
from include.gleaner.sql import queries

SMALLEST_BATCH = 8  # pages; below it a task costs more than its work
# A batch is worth a quarter of a minute: a killed task does little again anyway, and nobody waits longer for a slot. A
# page takes a hundredth of a second, but a third with the local model.
LARGEST_BATCH, LARGEST_LOCAL_BATCH = 2_500, 50


def plan_batches(
    conn: psycopg.Connection,
    *,
    tenant_id: str,
    source_id: uuid.UUID,
    job_id: int,
    model: str,
    fingerprint: str,
    policy: RunPolicy,
    slots: int,
) -> tuple[Batch, ...]:
    """Batches of the pages that are new, changed, or made by other policies than this run's; none when all is done."""
    sql = queries("plan")
    key = {"tenant_id": tenant_id, "source_id": source_id}
    judge_canonicals(conn, tenant_id=tenant_id, source_id=source_id, job_id=job_id)
    with conn.transaction(), conn.cursor() as cursor:
        cursor.execute(sql["release_held"], key)
        cursor.execute(sql["release_duplicates"], key)
        cursor.execute(sql["mark_duplicates"], key)
        cursor.execute(sql["reopen_speechless"], key)
        cursor.execute(sql["reopen_pages"], {**key, "model": model, "fingerprint": fingerprint})
        cursor.execute(sql["reopen_without_vectors"], {**key, "model": model})
        cursor.execute(sql["lower_fence"], key)
        batches = _cut(cursor, key, ["fetched", "completed"], policy.batch_size or LARGEST_BATCH, slots)
        planned = sum(batch.pages for batch in batches)
        cursor.execute(sql["set_planned"], {**key, "job_id": job_id, "planned": planned})
    return batches


def load_batches(
    conn: psycopg.Connection, *, tenant_id: str, source_id: uuid.UUID, policy: RunPolicy, slots: int, is_local: bool
) -> tuple[Batch, ...]:
    """Batches of the pages that wait to be chunked: the processed ones, and those that the survey opened again."""
    key = {"tenant_id": tenant_id, "source_id": source_id}
    largest = policy.batch_size or (LARGEST_LOCAL_BATCH if is_local else LARGEST_BATCH)
    with conn.transaction(), conn.cursor() as cursor:
        return _cut(cursor, key, ["completed"], largest, slots)


def _cut(cursor: psycopg.Cursor, key: dict[str, Any], states: list[str], largest: int, slots: int) -> tuple[Batch, ...]:
    sql = queries("plan")
    cursor.execute(sql["count_todo"], {**key, "states": states})
    row = cursor.fetchone()
    size = batch_size(int(row[0]) if row else 0, largest, slots)
    cursor.execute(sql["cut_batches"], {**key, "states": states, "size": size})
    ranges = cursor.fetchall()
    return tuple(
        Batch(index=number, of=len(ranges), first_page=first, last_page=last, pages=pages)
        for number, (first, last, pages) in enumerate(ranges, start=1)
    )


def batch_size(pages: int, largest: int, slots: int) -> int:
    """Pages per batch: few enough to fill all slots, enough to be worth a task, never more than 1,000 batches.

    Where there are more batches than slots, they are a multiple of these, so that all end together. `largest` yields
    only to the limit on the number of batches.
    """
    slots = max(slots, 1)
    rounds = max(1, -(-pages // (slots * largest)))
    fill = max(-(-pages // (slots * rounds)), min(SMALLEST_BATCH, largest))
    return max(min(fill, largest), -(-pages // MAX_BATCHES), 1)
