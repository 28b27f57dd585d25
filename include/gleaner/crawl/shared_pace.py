"""The pace of each site in Postgres, so that all crawls on all workers are one visitor to it."""

from __future__ import annotations

import logging
import threading
import uuid
from typing import Any, Self

import psycopg

from include.gleaner.crawl.throttle import LEASE_SECONDS, LONGEST_PENALTY, MARGIN
from include.gleaner.sql import queries

log = logging.getLogger(__name__)


class PostgresStore:
    """A PaceStore on a connection of its own, which it closes.

    `holder` is who asks: what a killed predecessor of the same name left behind is free at once.
    """

    def __init__(self, conn: psycopg.Connection, *, holder: uuid.UUID) -> None:
        self._conn = conn
        self._sql = queries("throttle")
        self._holder = holder
        self._lock = threading.Lock()
        self._known: set[str] = set()
        conn.execute(self._sql["settle"])
        conn.execute(self._sql["leave"], {"holder": holder})

    @classmethod
    def beside(cls, conn: psycopg.Connection, *, holder: uuid.UUID) -> Self:
        """On a second connection to where `conn` leads."""
        info = conn.info
        options: dict[str, Any] = {**info.get_parameters(), "application_name": "gleaner pace"}
        if info.password:
            options["password"] = info.password
        second = psycopg.connect(**options, autocommit=True, prepare_threshold=None)
        second.execute(queries("session")["pin"], {"statement_timeout": None, "lock_timeout": None})
        return cls(second, holder=holder)

    def claim(self, site: str, delay: float) -> tuple[float, float]:
        """As PaceStore says."""
        with self._lock:
            self._know(site)
            row = self._run("claim_turn", site=site, delay=delay, margin=MARGIN).fetchone()
        if row is None:
            self._known.discard(site)  # forgotten by a server that crashed: known again at the next try
            return 0.001, delay
        return float(row[0]), float(row[1])

    def lease(self, site: str, limit: int, wanted: int) -> list[int]:
        """As PaceStore says."""
        with self._lock:
            self._know(site)
            found = self._run(
                "lease_slots", site=site, holder=self._holder, limit=limit, wanted=wanted, seconds=LEASE_SECONDS
            ).fetchall()
            if not found:
                self._run("want_slots", site=site)
        return [int(row[0]) for row in found]

    def release(self, site: str, slots: list[int]) -> None:
        """As PaceStore says."""
        with self._lock:
            self._run("release_slots", site=site, slots=slots, holder=self._holder)

    def penalize(self, site: str, *, first: float, retry_after: float, elapsed: float) -> float:
        """As PaceStore says."""
        with self._lock:
            row = self._run(
                "penalize", site=site, first=first, longest=LONGEST_PENALTY, retry_after=retry_after, elapsed=elapsed
            ).fetchone()
        return float(row[0]) if row else first

    def ease(self, site: str) -> float:
        """As PaceStore says."""
        with self._lock:
            row = self._run("ease", site=site).fetchone()
        return float(row[0]) if row else 0.0

    def beat(self) -> frozenset[str]:
        """As PaceStore says. A beat that fails is left to the next; the crawl itself needs the database too."""
        try:
            with self._lock:
                self._run("keep_slots", holder=self._holder, seconds=LEASE_SECONDS)
                return frozenset(row[0] for row in self._run("wanted_sites", holder=self._holder).fetchall())
        except psycopg.Error as error:
            log.warning("the pace's database does not answer: %s", type(error).__name__)
            return frozenset()

    def close(self) -> None:
        """As PaceStore says."""
        with self._lock:
            try:
                self._run("leave", holder=self._holder)
                self._run("forget_sites")
            except psycopg.Error as error:  # the slots end by themselves
                log.warning("the pace's database does not answer: %s", type(error).__name__)
            finally:
                self._conn.close()

    def _know(self, site: str) -> None:
        if site not in self._known:
            self._run("know_site", site=site)
            self._known.add(site)

    def _run(self, query: str, **values: Any) -> psycopg.Cursor[Any]:
        return self._conn.execute(self._sql[query], values)
