"""The shared limits with their state in a real Redis."""

from __future__ import annotations

import socket

import pytest
import redis

from include.gleaner.errors import EmbeddingUnavailableError
from include.gleaner.shared.redis_state import KEY, RedisState
from tests.support.limits import ENDPOINT, LimitsContract, gate
from tests.support.redis_server import RedisServer


class TestInRedis(LimitsContract):
    @pytest.fixture
    def address(self, redis_server: RedisServer) -> str:
        redis_server.client().flushdb()
        return redis_server.url

    def test_a_state_that_cannot_be_read_is_begun_anew(self, redis_server: RedisServer) -> None:
        client = redis_server.client()
        client.set(KEY + ENDPOINT, b"\xff{")
        assert gate(RedisState(client)).admit(1).wait == 0
        assert client.ttl(KEY + ENDPOINT) > 3_600  # what nobody uses goes

    def test_without_redis_the_task_says_so(self) -> None:
        with socket.socket() as taken:  # a port on which nobody listens
            taken.bind(("127.0.0.1", 0))
            dead = redis.Redis(host="127.0.0.1", port=taken.getsockname()[1], password="secret", socket_timeout=1)
            with pytest.raises(EmbeddingUnavailableError, match="gleaner_redis") as caught:
                gate(RedisState(dead)).admit(1)
        assert "secret" not in str(caught.value)
