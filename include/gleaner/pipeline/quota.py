"""A tenant's monthly token quota, kept by all tasks together.

A task reserves what it is about to ask for before it asks, so that tasks side by side do not spend the same rest twice.
What is spent is charged with the vectors; the reservation of a task that died ends after an hour.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import psycopg

from include.gleaner.sql import queries

log = logging.getLogger(__name__)

HELD_SECONDS: Final = 3_600.0  # no task runs longer


class Quota:
    """What one task may still spend for its tenant; `conn` is outside of a transaction."""

    def __init__(self, conn: psycopg.Connection, *, tenant_id: str, holder: str) -> None:
        self._conn = conn
        self._sql = queries("quota")
        self._key = {"tenant_id": tenant_id, "holder": holder}
        self._reserved = False
        self._held = 0  # tokens that are reserved and not answered yet

    def admit(self, tokens: Sequence[int]) -> int:
        """How many of the texts, from the first on, the quota covers beside what is held; they are reserved.

        All without a quota.
        """
        row = self._conn.execute(self._sql["quota"], self._key).fetchone()
        if row is None or row[0] is None:
            return len(tokens)
        with self._conn.transaction():
            # The lock in a statement of its own: the sums must see what its last holder wrote.
            quota = self._one("lock")
            rest = sum(tokens) if quota is None else quota - (self._one("taken") or 0) - self._held
            admitted = reserved = 0
            for count in tokens:
                if reserved + count > rest:
                    break
                admitted, reserved = admitted + 1, reserved + count
            held = self._held + reserved
            self._conn.execute(self._sql["reserve"], {**self._key, "tokens": held, "seconds": HELD_SECONDS})
        self._reserved, self._held = True, held
        if admitted < len(tokens):
            log.warning(
                "the monthly quota of %s tokens covers %d of %d texts; the others are stored without vectors, and get "
                "them next month or when the quota is raised: python -m include.gleaner.ops.tenants quota %s TOKENS",
                quota, admitted, len(tokens), self._key["tenant_id"],
            )  # fmt: skip
        return admitted

    def answered(self, tokens: int) -> None:
        """Texts that were reserved with so many tokens are charged, or refused: they are held no longer."""
        if self._reserved:
            self._held = max(0, self._held - tokens)
            self._conn.execute(self._sql["hold"], {**self._key, "tokens": self._held})

    def release(self) -> None:
        """Give back what was not spent."""
        if self._reserved:
            self._conn.execute(self._sql["release"], self._key)
            self._reserved, self._held = False, 0

    def _one(self, query: str) -> int | None:
        row = self._conn.execute(self._sql[query], self._key).fetchone()
        return None if row is None or row[0] is None else int(row[0])


@contextmanager
def quota_of(conn: psycopg.Connection, *, tenant_id: str, holder: str) -> Iterator[Quota]:
    """The quota for one task, `holder` being its name; what was reserved and not spent is given back at the end."""
    quota = Quota(conn, tenant_id=tenant_id, holder=holder)
    try:
        yield quota
    finally:
        with suppress(psycopg.Error):  # a connection that is gone: it ends by itself
            quota.release()
