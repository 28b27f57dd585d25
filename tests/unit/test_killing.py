"""A process that was killed has the time it takes to end: one that writes to a slow disk ends when the disk is done.

No test can make a disk hang. The process here is a real one, found and ended by its id; only the clock is run by the
test, and the kill reaches it as late as it would if the disk held it. Then the clock stands until it has ended.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from include.gleaner.errors import SetupError
from include.gleaner.local import processes
from include.gleaner.local.processes import ProcessGroup, sweep

GRACE_SECONDS = 10.0
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


class Clock:
    """In place of `time`: it goes on when somebody wants to sleep, and ten times as far."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += 10 * seconds


class SlowDisk:
    """Holds whatever is killed for so many seconds from the first kill on."""

    def __init__(self, clock: Clock, seconds: float, deliver: Callable[[int, int], None]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._deliver = deliver
        self.killed: float | None = None

    def signal(self, pid: int, number: int) -> None:
        if number == signal.SIGKILL:
            self.killed = self._clock.now if self.killed is None else self.killed
            if self._clock.now < self.killed + self._seconds:
                return
        self._deliver(pid, number)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found, deliver = Clock(), processes._signal

    def at_once(pid: int, number: int) -> None:
        deliver(pid, number)
        if number == signal.SIGKILL:  # on a busy machine a minute of this clock is over before it has died
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    monkeypatch.setattr(processes, "time", found)
    monkeypatch.setattr(processes, "_signal", at_once)
    return found


def held(clock: Clock, seconds: float, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ProcessGroup, int]:
    """A process that takes no notice of SIGTERM, on a disk that holds it when it is killed."""
    group, log = ProcessGroup(folder / "run"), folder / "log"
    process = group.start("deaf", [sys.executable, "-c", DEAF], log=log, grace_seconds=GRACE_SECONDS)
    while not log.read_bytes():
        assert process.poll() is None
        os.sched_yield()
    disk = SlowDisk(clock, seconds, processes._signal)
    monkeypatch.setattr(processes, "_signal", disk.signal)
    return group, process.pid


def test_a_killed_process_may_take_three_quarters_of_a_minute(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = clock.now
    group, pid = held(clock, 45, tmp_path, monkeypatch)
    group.stop("deaf")
    assert clock.now - began >= GRACE_SECONDS + 45
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert list((tmp_path / "run").iterdir()) == []


def test_one_that_never_ends_is_named_and_left_to_the_next_start(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = clock.now
    with monkeypatch.context() as broken:
        group, pid = held(clock, 1e9, tmp_path, broken)
        with pytest.raises(SetupError, match=rf"\[{pid}\] do not end; end them by hand"):
            group.stop("deaf")
    assert clock.now - began < 120  # a person waits for it
    os.kill(pid, 0)
    assert sweep(tmp_path / "run") == ["deaf"]
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
