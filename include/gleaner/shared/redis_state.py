"""The shared state of endpoints in Redis. Apart from state.py, so that only who has a Redis loads its client."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

import redis

from include.gleaner.errors import EmbeddingUnavailableError
from include.gleaner.shared.breaker import State
from include.gleaner.shared.state import MOST_TOLD, Answer, Endpoint, from_json, to_json

REDIS_SECONDS: Final = 10.0  # for a step, with its tries
KEPT_SECONDS: Final = 86_400
KEY: Final = "gleaner:endpoint:"


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
