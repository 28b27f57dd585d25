"""The local stack's executor: what makes the scheduler look before its time, and what it waits for otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.executors.local_executor import LocalExecutor
from sqlalchemy import create_engine, text
from sqlalchemy.pool import StaticPool

from include.gleaner.local import executor as module
from include.gleaner.local.executor import BUSY_SECONDS, IDLE_SECONDS, STEP_SECONDS, PromptExecutor


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.events: dict[float, Any] = {}  # what happens when so many seconds have passed

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for moment in [moment for moment in self.events if self.now - 1_000 >= moment]:
            self.events.pop(moment)()


class Queue:
    """What workers tell."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def empty(self) -> bool:
        return not self.told


class Workload:
    key = "a task"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Running tasks and queued runs, as the database would have them."""
    counts = [0, 0]
    monkeypatch.setattr(module, "_counts", lambda: tuple(counts))
    return counts


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch, clock: Clock, counts: list[int], queue: Queue) -> PromptExecutor:
    monkeypatch.setattr(LocalExecutor, "sync", lambda self: None)
    monkeypatch.setattr(LocalExecutor, "_process_workloads", lambda self, workloads: None)
    executor = PromptExecutor(parallelism=2)
    monkeypatch.setattr(executor, "result_queue", queue, raising=False)
    return executor


def waited(executor: PromptExecutor, clock: Clock) -> float:
    before = clock.now
    executor.sync()
    return clock.now - before


def test_it_waits_shortly_while_nothing_runs(executor: PromptExecutor, clock: Clock) -> None:
    assert IDLE_SECONDS <= waited(executor, clock) <= IDLE_SECONDS + STEP_SECONDS


def test_it_waits_long_while_a_task_runs(executor: PromptExecutor, clock: Clock, counts: list[int]) -> None:
    executor._process_workloads([Workload()])
    counts[0] = 1
    assert BUSY_SECONDS <= waited(executor, clock) <= BUSY_SECONDS + STEP_SECONDS
    executor.change_state(Workload.key, "success")
    assert waited(executor, clock) < BUSY_SECONDS / 2


@pytest.mark.parametrize("what", ["a task ended", "a run was asked for", "a worker told"])
def test_it_goes_on_when_something_happened(
    what: str, executor: PromptExecutor, clock: Clock, counts: list[int], queue: Queue
) -> None:
    executor._process_workloads([Workload()])
    counts[0] = 2
    changes = {
        "a task ended": lambda: counts.__setitem__(0, 1),
        "a run was asked for": lambda: counts.__setitem__(1, 1),
        "a worker told": lambda: queue.told.append("success"),
    }
    clock.events[0.5] = changes[what]
    assert 0.5 <= waited(executor, clock) <= 0.5 + 2 * STEP_SECONDS


def test_it_does_not_go_on_again_for_what_the_scheduler_knows(
    executor: PromptExecutor, clock: Clock, counts: list[int]
) -> None:
    executor._process_workloads([Workload()])
    counts[:] = [2, 1]
    waited(executor, clock)
    counts[0] = 3  # one more was started, and the queued run stays queued
    assert waited(executor, clock) >= BUSY_SECONDS


def test_what_ended_while_the_scheduler_worked_is_not_waited_for(
    executor: PromptExecutor, clock: Clock, counts: list[int]
) -> None:
    executor._process_workloads([Workload()])
    counts[0] = 2
    waited(executor, clock)
    counts[0] = 1  # after the scheduler had looked, and before this is called again
    assert waited(executor, clock) < STEP_SECONDS


def test_running_tasks_and_queued_runs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    monkeypatch.setattr(module.settings, "engine", engine)
    assert module._counts() == (0, 0)  # there is no table: the scheduler finds out what is wrong
    with engine.begin() as conn:
        for table, states in (("task_instance", "running running queued success"), ("dag_run", "running queued")):
            conn.execute(text(f"CREATE TABLE {table} (state text)"))
            for state in states.split():
                conn.execute(text(f"INSERT INTO {table} VALUES (:state)"), {"state": state})
    assert module._counts() == (2, 1)
