"""Waits for an endpoint without a slot: the task ends, and Airflow begins it again at the time that was asked for."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn

import psycopg

from include.gleaner.errors import EmbeddingQuotaError
from include.gleaner.pipeline.accounting import BatchTally
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

MOST_SECONDS: Final = 24 * 3_600.0  # of waiting, for one try


def reschedule(error: EmbeddingQuotaError, *, waited: float) -> NoReturn:
    """Give the slot back until the endpoint may be asked again. It is the same try afterwards: no retry is used up.

    `waited` is the time in seconds since the try began for the first time. After a day `error` itself is raised.
    """
    if waited + error.retry_after > MOST_SECONDS:
        raise error
    log.warning("%s. The task gives its slot back for %.0f s.", error, error.retry_after)
    come_back_in(error.retry_after)


def come_back_in(seconds: float, why: str = "") -> NoReturn:
    """Give the slot back; Airflow begins the task again after so many seconds, as the same try."""
    from airflow.sdk.exceptions import AirflowRescheduleException

    if why:
        log.info("%s: the task gives its slot back for %.1f s", why, seconds)
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    raise AirflowRescheduleException(at) from None  # type: ignore[no-untyped-call]


def waited_seconds(conn: psycopg.Connection, tally: BatchTally, *, over_all_tries: bool = False) -> float:
    """Seconds since this try of the batch began for the first time, or since the first of all its tries did."""
    row = conn.execute(queries("plan")["age_of_first_try" if over_all_tries else "batch_age"], tally.key()).fetchone()
    return float(row[0]) if row else 0.0
