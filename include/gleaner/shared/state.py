"""The shared state of one endpoint, and the first of the two places it can be kept in; redis_state.py is the other.

State is a small JSON document. A step reads it, changes it and writes it as one: in Postgres under the lock of its row,
in Redis by WATCH and EXEC. Both tell the time, so that the workers' clocks do not matter. A document that is lost, as
by a crash of the server, is begun anew: that forgives a debt of seconds, no more.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Final, Protocol, TypeVar

import psycopg

from include.gleaner.errors import EmbeddingUnavailableError
from include.gleaner.shared.breaker import Breaker, State
from include.gleaner.shared.bucket import Bucket, Tenant
from include.gleaner.sql import queries

MOST_TOLD: Final = 20  # endpoints

Answer = TypeVar("Answer")


@dataclass(kw_only=True)
class Endpoint:
    """What is known of one endpoint."""

    bucket: Bucket = field(default_factory=Bucket)
    breaker: Breaker = field(default_factory=Breaker)


class StateStore(Protocol):
    """Keeps the state of endpoints for all workers."""

    def change(self, endpoint: str, step: Callable[[Endpoint, float], Answer]) -> Answer:
        """What `step` answers; it is given the state, which it changes, and the store's time in seconds.

        `step` may be called more than once, each time with what the store has then. Raises
        EmbeddingUnavailableError when Redis does not answer, and psycopg.Error when Postgres does not.
        """

    def breakers(self) -> dict[str, State]:
        """How the circuit breaker of each endpoint stands that was asked of late. Changes nothing; raises the same."""


class PostgresState:
    """In the table endpoint_state; `conn` is outside of a transaction whenever it is used."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self._conn = conn
        self._sql = queries("endpoint")

    def change(self, endpoint: str, step: Callable[[Endpoint, float], Answer]) -> Answer:
        """As StateStore says."""
        key = {"endpoint": endpoint}
        with self._conn.transaction():
            self._conn.execute(self._sql["settle"])
            found = self._conn.execute(self._sql["lock"], key).fetchone()
            if found is None:
                self._conn.execute(self._sql["create"], key)
                found = self._conn.execute(self._sql["lock"], key).fetchone()
            now = self._conn.execute(self._sql["now"]).fetchone()  # of its own: the lock may have been waited for
            if found is None or now is None:
                raise EmbeddingUnavailableError("the shared limits were removed meanwhile; run the task again")
            state = from_json(found[0])
            answer = step(state, float(now[0]))
            self._conn.execute(self._sql["store"], {**key, "state": to_json(state)})
        return answer

    def breakers(self) -> dict[str, State]:
        """As StateStore says."""
        found = self._conn.execute(self._sql["known"], {"most": MOST_TOLD})
        return {endpoint: from_json(text).breaker.state(now) for endpoint, text, now in found}


def to_json(state: Endpoint) -> str:
    return json.dumps(asdict(state))


def from_json(text: str | bytes | None) -> Endpoint:
    """The state; a new one when there is none, or when what is there cannot be read."""
    if not text:
        return Endpoint()
    try:
        data = json.loads(text)
        bucket = dict(data["bucket"])
        bucket["tenants"] = {name: Tenant(**standing) for name, standing in bucket["tenants"].items()}
        return Endpoint(bucket=Bucket(**bucket), breaker=Breaker(**data["breaker"]))
    except (ValueError, TypeError, KeyError, AttributeError):  # written by another version
        return Endpoint()
