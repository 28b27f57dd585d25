"""/gleaner/metrics, as Prometheus asks for it.

Prometheus has no login: it brings a token of its own, which the API server has in GLEANER_METRICS_TOKEN or in the file
that GLEANER_METRICS_TOKEN_FILE names. Whoever has a login of Airflow and may read is let in as everywhere.
"""

from __future__ import annotations

import hmac
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import psycopg
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, requires_access_dag
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.utils.session import create_session
from fastapi import Depends, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from include.gleaner.api.access import INGEST
from include.gleaner.errors import EmbeddingUnavailableError, SetupError
from include.gleaner.pipeline.connections import endpoint_state, knowledge_connection
from include.gleaner.pools import POOLS
from include.gleaner.report.metrics import CONTENT_TYPE, Samples, about_gleaner, exposition, read_knowledge
from include.gleaner.scheduling import DAG_IDS

log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 5.0  # for which one answer is given to all who ask
SECONDS_IN_LINE: Final = 8.0  # for the answer that another one waits for
STATEMENT_TIMEOUT: Final = "2s"
LOCK_TIMEOUT: Final = "500ms"
LEAST_TOKEN: Final = 16  # characters; a shorter one is no secret
RECENT_RUNS: Final = 200


async def may_scrape(
    request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]
) -> None:
    """401 or 403 for whoever brings neither the token nor a login that may read."""
    token = metrics_token()
    if token and bearer and hmac.compare_digest(bearer.credentials.encode(), token.encode()):
        return
    user = await get_user(request, None, bearer)
    await run_in_threadpool(requires_access_dag("GET", param_dag_id=INGEST), request, user)


def metrics_token() -> str | None:
    """The token that lets a scraper in; None when there is none, or none that can be used."""
    token = os.environ.get("GLEANER_METRICS_TOKEN", "")
    if name := os.environ.get("GLEANER_METRICS_TOKEN_FILE"):
        try:
            token = Path(name).read_text("utf-8")
        except (OSError, ValueError) as error:
            log.warning("GLEANER_METRICS_TOKEN_FILE cannot be read: %s", type(error).__name__)
            return None
    token = token.strip()
    if token and len(token) < LEAST_TOKEN:
        log.warning("the token for /gleaner/metrics has less than %d characters and is not used", LEAST_TOKEN)
    return token if len(token) >= LEAST_TOKEN else None


class Scrapes:
    """One answer at a time, which those who ask meanwhile and shortly after are given too."""

    def __init__(self, collect: Callable[[], bytes]) -> None:
        self._collect = collect
        self._lock = threading.Lock()
        self._text = b""
        self._until = float("-inf")

    def text(self) -> bytes:
        """The exposition; 503 when the one that is under way takes too long."""
        if not self._lock.acquire(timeout=SECONDS_IN_LINE):
            raise HTTPException(503, "another scrape still waits for the database")
        try:
            if time.monotonic() >= self._until:
                self._text = self._collect()
                self._until = time.monotonic() + FRESH_SECONDS
            return self._text
        finally:
            self._lock.release()


def collect() -> bytes:
    """Everything that is told. A database that cannot be used is told as gleaner_up 0, with the reason as a comment."""
    samples, reason = Samples(), None
    about_gleaner(samples)
    _read_airflow(samples)
    try:
        with knowledge_connection(statement_timeout=STATEMENT_TIMEOUT, lock_timeout=LOCK_TIMEOUT) as conn:
            found = Samples()
            read_knowledge(conn, found, capacity=_capacity())
            _read_breakers(conn, found)
        samples.add(found)
    except SetupError as error:
        reason, fault = str(error), "setup"
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
        reason, fault = "the knowledge database took too long", "timeout"
    except psycopg.Error as error:
        reason, fault = f"the knowledge database cannot be reached ({type(error).__name__})", "unreachable"
    samples.put("gleaner_up", reason is None)
    if reason is None:
        return exposition(samples)
    samples.put("gleaner_database_fault", 1, fault)
    return f"# {' '.join(reason.split())}\n".encode() + exposition(samples)


def _read_airflow(samples: Samples) -> None:
    """Pools and runs, from Airflow's own database; nothing of it when that fails."""
    try:
        with create_session(scoped=False) as session:
            pools = Pool.slots_stats(session=session)
            newest = select(DagRun.dag_id, DagRun.state).where(DagRun.dag_id.in_(DAG_IDS))
            runs = Counter(
                (dag_id, str(state))
                for dag_id, state in session.execute(newest.order_by(DagRun.id.desc()).limit(RECENT_RUNS))
            )
    except SQLAlchemyError as error:
        log.warning("Airflow's database does not tell of pools and runs: %s", type(error).__name__)
        return
    for pool in POOLS:
        if (found := pools.get(pool.name)) is not None:
            for state in ("total", "running", "queued", "scheduled", "deferred"):
                samples.put("gleaner_pool_slots", found[state], pool.name, state)
    for dag_id in DAG_IDS:
        for state in ("queued", "running", "success", "failed"):
            samples.put("gleaner_recent_dag_runs", runs[dag_id, state], dag_id, state)


def _read_breakers(conn: psycopg.Connection, samples: Samples) -> None:
    try:
        breakers = endpoint_state(conn).breakers()
    except EmbeddingUnavailableError as error:
        log.warning("%s", error)
        breakers = {}
        samples.put("gleaner_shared_state_up", 0)
    else:
        samples.put("gleaner_shared_state_up", 1)
    for endpoint, state in breakers.items():
        for name in ("closed", "open", "half-open"):
            samples.put("gleaner_breaker_state", state == name, endpoint, name)


def _capacity() -> float | None:
    value = os.environ.get("GLEANER_DATABASE_CAPACITY_BYTES", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 20 and int(value) else None


_scrapes: Final = Scrapes(collect)


def metrics() -> Response:
    """Numbers about Gleaner, as Prometheus reads them."""
    return Response(_scrapes.text(), media_type=CONTENT_TYPE)


# Not of a router of the app: those ask for a login of Airflow.
route: Final = APIRoute(
    "/metrics", metrics, methods=["GET"], response_class=Response, dependencies=[Depends(may_scrape)], tags=["metrics"]
)
