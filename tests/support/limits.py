"""The contract of the shared limits, and a process that keeps to it, for either store.

python -m tests.support.limits STORE ask TENANT TOKENS SECONDS   asks as often as it may; prints what it was given
python -m tests.support.limits STORE probe                       asks the breaker once; prints whether it may go

The first says "ready" when it has opened the store, and begins when a line comes in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import redis

from include.gleaner.shared import breaker
from include.gleaner.shared.bucket import Limits
from include.gleaner.shared.gate import SharedGate
from include.gleaner.shared.redis_state import RedisState
from include.gleaner.shared.state import Endpoint, PostgresState, StateStore

ROOT: Final = Path(__file__).parents[2]
ENDPOINT: Final = "api.example.com/model"
LIMITS: Final = Limits(requests=1_200, tokens=120_000)  # 20 and 2,000 a second


@contextmanager
def opened(address: str) -> Iterator[StateStore]:
    """The store at a postgresql:// or redis:// address."""
    if address.startswith("redis://"):
        with redis.Redis.from_url(address) as client:
            yield RedisState(client)
    else:
        with psycopg.connect(address, autocommit=True, prepare_threshold=None) as conn:
            yield PostgresState(conn)


def gate(store: StateStore, tenant: str = "acme", limits: Limits = LIMITS, probe_seconds: float = 30) -> SharedGate:
    return SharedGate(store, endpoint=ENDPOINT, tenant_id=tenant, limits=limits, probe_seconds=probe_seconds)


def start(address: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.limits", address, *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def go(processes: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """Let processes that ask begin in the same moment, however long each took to start."""
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


def told(processes: list[subprocess.Popen[str]]) -> list[Any]:
    results = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [json.loads(result) for result in results]


def change(address: str, step: Callable[[Endpoint, float], Any]) -> Any:
    with opened(address) as store:
        return store.change(ENDPOINT, step)


class Clocked:
    """A store that remembers its own time of the last change. Asked for afterwards, it would be a later one."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.now = 0.0

    def change(self, endpoint: str, step: Callable[[Endpoint, float], Any]) -> Any:
        def noted(state: Endpoint, now: float) -> Any:
            self.now = now
            return step(state, now)

        return self._store.change(endpoint, noted)

    def breakers(self) -> dict[str, str]:
        return self._store.breakers()


def asked(address: str, tenant: str, tokens: int, seconds: float) -> dict[str, float]:
    """Ask as often as one may from one moment on; what was given, and the store's time at the first and last gift.

    Not before the bucket is empty does it end: on a busy machine it takes longer to use up what a full one held.
    """
    given = 0
    first = last = wait = 0.0
    with opened(address) as opened_store:
        store = Clocked(opened_store)
        mine = gate(store, tenant)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        end = time.monotonic() + seconds
        while time.monotonic() < end or wait <= 0:
            wait = mine.admit(tokens).wait
            if wait > 0:
                time.sleep(min(wait, 0.2))
                continue
            given += 1
            last = store.now
            first = first or last
    return {"given": given, "first": first, "last": last}


def window(found: list[dict[str, float]]) -> float:
    """Seconds from the first gift to any of them to the last. A process that was given nothing saw neither."""
    lucky = [each for each in found if each["given"]]
    return max(each["last"] for each in lucky) - min(each["first"] for each in lucky)


class LimitsContract:
    """What holds for every store. A subclass gives the fixture `address`."""

    @pytest.fixture
    def address(self) -> str:
        raise NotImplementedError

    def test_how_breakers_stand_is_told_without_a_change(self, address: str) -> None:
        with opened(address) as store:
            assert store.breakers() == {}
            holder = gate(store)
            assert holder.admit(1).closed_for == 0
            assert store.breakers() == {ENDPOINT: "closed"}
            while holder.failed() == 0:
                pass
            assert store.breakers() == {ENDPOINT: "open"}
            store.change(ENDPOINT, lambda state, now: setattr(state.breaker, "open_until", now - 1))
            assert store.breakers() == {ENDPOINT: "half-open"}
            assert holder.admit(1).closed_for == 0  # the probe was not taken by those who only looked
            holder.succeeded()
            assert store.breakers() == {ENDPOINT: "closed"}

    def test_processes_together_are_given_what_the_limit_of_requests_gives(self, address: str) -> None:
        found = told(go([start(address, "ask", "acme", "1", "4") for _ in range(4)]))
        seconds = window(found)
        given = sum(each["given"] for each in found)
        allowed = 200 + 20 * seconds  # what the full bucket held, and what came in
        assert allowed - 25 <= given <= allowed + 1.5

    def test_processes_together_are_given_what_the_limit_of_tokens_gives(self, address: str) -> None:
        found = told(go([start(address, "ask", "acme", "700", "4") for _ in range(4)]))
        seconds = window(found)
        given = sum(each["given"] for each in found) * 700
        allowed = 20_000 + 2_000 * seconds
        assert given <= allowed + 700
        assert given >= allowed / 2  # processes that get no turn on a busy machine ask for less than they may

    def test_a_flood_of_one_tenant_leaves_another_its_share(self, address: str) -> None:
        for tries_left in (2, 1, 0):  # on a machine where one of them starts late, once more
            with opened(address) as store:
                while gate(store, "flood").admit(1_000).wait <= 0:  # the bucket is empty when it begins
                    pass
            flood = [start(address, "ask", "flood", "500", "6") for _ in range(3)]
            little, *others = told(go([start(address, "ask", "little", "500", "6"), *flood]))
            much = sum(each["given"] for each in others)
            share = little["given"] / (little["given"] + much)
            if 0.35 <= share <= 0.7 or not tries_left:
                break
        assert 0.35 <= share <= 0.7

    def test_a_tenant_that_died_while_it_waited_holds_up_nobody(self, address: str) -> None:
        with opened(address) as store:
            while gate(store, "rich").admit(2_000).wait <= 0:
                pass
            assert gate(store, "dead").admit(2_000).wait > 0  # and is never heard of again
            began = time.monotonic()
            rich = gate(store, "rich")
            while (wait := rich.admit(2_000).wait) > 0:
                time.sleep(min(wait, 0.2))
                assert time.monotonic() - began < 20
            assert time.monotonic() - began < 8

    def test_a_request_larger_than_the_bucket_goes_when_it_is_full_and_leaves_a_debt(self, address: str) -> None:
        with opened(address) as store:
            mine = gate(store)
            assert mine.admit(60_000).wait == 0
            assert 15 < mine.admit(1_000).wait < 22  # 40,000 below nothing, 2,000 a second
            assert gate(store, limits=Limits()).admit(10**9).wait == 0  # without limits nobody waits

    def test_failures_of_all_workers_in_a_row_open_the_breaker_for_all(self, address: str) -> None:
        with opened(address) as first, opened(address) as second:
            one, two = gate(first), gate(second, "other")
            for _ in range(breaker.FAILURES - 1):
                assert one.failed() == 0
            two.succeeded()
            for number in range(breaker.FAILURES - 1):
                assert (one if number % 2 else two).failed() == 0
            assert two.failed() == pytest.approx(breaker.FIRST_OPEN, abs=2)
            assert one.admit(1).closed_for == pytest.approx(breaker.FIRST_OPEN, abs=3)

    def test_an_answer_that_was_asked_for_before_does_not_close_it(self, address: str) -> None:
        with opened(address) as store:
            one, two = gate(store), gate(store)
            for _ in range(breaker.FAILURES):
                one.failed()
            two.succeeded()
            assert two.admit(1).closed_for > 0

    def open_and_wait(self, address: str) -> None:
        """The breaker, at the end of its time."""

        def step(state: Endpoint, now: float) -> None:
            for _ in range(breaker.FAILURES):
                breaker.failed(state.breaker, now, "x")
            state.breaker.open_until = now

        change(address, step)

    def test_one_probe_in_the_whole_fleet(self, address: str) -> None:
        self.open_and_wait(address)
        assert sorted(told([start(address, "probe") for _ in range(6)])) == [False] * 5 + [True]

    def test_the_answer_of_the_probe_closes_it(self, address: str) -> None:
        self.open_and_wait(address)
        with opened(address) as store:
            one, two = gate(store), gate(store, "other")
            assert one.admit(1).closed_for == 0
            assert one.admit(1).closed_for > 0  # one request, not one worker
            assert two.admit(1).closed_for > 0
            one.succeeded()
            assert (one.admit(1).closed_for, two.admit(1).closed_for) == (0, 0)

    def test_a_probe_that_fails_doubles_the_time(self, address: str) -> None:
        self.open_and_wait(address)
        with opened(address) as store:
            one = gate(store)
            assert one.admit(1).closed_for == 0
            assert one.failed() == pytest.approx(2 * breaker.FIRST_OPEN, abs=2)

    def test_the_probe_of_a_dead_worker_goes_to_another(self, address: str) -> None:
        self.open_and_wait(address)
        with opened(address) as store:
            assert gate(store, probe_seconds=2).admit(1).closed_for == 0
            left = gate(store).admit(1).closed_for
            assert 0 < left <= 2
            time.sleep(left + 0.1)
            assert gate(store).admit(1).closed_for == 0

    def test_a_probe_that_has_to_wait_for_its_tokens_is_given_back(self, address: str) -> None:
        with opened(address) as store:
            while gate(store).admit(2_000).wait <= 0:
                pass
            self.open_and_wait(address)
            assert gate(store).admit(20_000).wait > 0
            assert gate(store, limits=Limits()).admit(1).closed_for == 0


def main(arguments: list[str]) -> None:
    address, action, *rest = arguments
    if action == "ask":
        result: Any = asked(address, rest[0], int(rest[1]), float(rest[2]))
    else:
        with opened(address) as store:
            result = gate(store).admit(1).closed_for == 0
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
