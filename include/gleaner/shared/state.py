"""The shared state of one endpoint, and the two places it can be kept in.

State is a small JSON document. A step reads it, changes it and writes it as one: in Postgres under the lock of its row,
in Redis by WATCH and EXEC. Both tell the time, so that the workers' clocks do not matter. A document that is lost, as
by a crash of the server, is begun anew: that forgives a debt of seconds, no more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

import psycopg
import redis

from include.gleaner.errors import EmbeddingUnavailableError
from include.gleaner.shared.breaker import Breaker, State
from include.gleaner.shared.bucket import Bucket, Tenant
from include.gleaner.sql import queries

REDIS_SECONDS: Final = 10.0  # for a step, with its tries
KEPT_SECONDS: Final = 86_400
KEY: Final = "gleaner:endpoint:"
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


class RedisState:
    """In one key per endpoint."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def change(self, endpoint: str, step: Callable[[Endpoint, float], Answer]) -> Answer:
        """As StateStore says."""
        key = KEY + endpoint
        end = time.monotonic() + REDIS_SECONDS
        try:
            with self._client.pipeline() as pipe:
                while time.monotonic() < end:
                    pipe.watch(key)  # type: ignore[no-untyped-call]
                    found: Any = pipe.get(key)
                    seconds, micros = self._client.time()
                    state = from_json(found)
                    answer = step(state, seconds + micros / 1e6)
                    pipe.multi()
                    pipe.set(key, to_json(state), ex=KEPT_SECONDS)
                    try:
                        pipe.execute()
                    except redis.WatchError:
                        time.sleep(0.001)
                        continue
                    return answer
        except redis.RedisError as error:
            raise EmbeddingUnavailableError(
                f"the shared limits cannot be reached (Redis, {type(error).__name__}); "
                "look at the connection gleaner_redis, then clear the task"
            ) from None
        raise EmbeddingUnavailableError("the shared limits are too busy (Redis); run the task again")

    def breakers(self) -> dict[str, State]:
        """As StateStore says."""
        try:
            seconds, micros = self._client.time()
            keys = islice(self._client.scan_iter(match=f"{KEY}*", count=1_000), MOST_TOLD)
            names = sorted(key.decode() for key in keys)
            found: Any = self._client.mget(names) if names else []
        except redis.RedisError as error:
            raise EmbeddingUnavailableError(
                f"the shared limits cannot be reached (Redis, {type(error).__name__})"
            ) from None
        now = seconds + micros / 1e6
        return {
            name.removeprefix(KEY): from_json(text).breaker.state(now) for name, text in zip(names, found, strict=True)
        }


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
