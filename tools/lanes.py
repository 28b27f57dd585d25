"""Runs commands side by side, so many at once, and shows what they say as if they had run one after the other.

    python3 tools/lanes.py LANES COMMAND...

The command that began first is heard line by line; what another says is shown in one piece when it ends, or when its
turn to be heard comes. The first that fails ends the others, and its exit code is that of the whole. Nothing that a
command started outlives it. Standard library only: this runs before there is a .venv.
"""

from __future__ import annotations

import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

MARK: Final = "GLEANER_LANES"  # in the environment of everything that is started here
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TELL_SECONDS: Final = 120.0  # between two lines about what is going on
GRACE: Final = ((signal.SIGINT, 90.0), (signal.SIGTERM, 20.0), (signal.SIGKILL, 10.0))
STRAY_SECONDS: Final = 60.0  # what guards others may take so long to end them


class Job:
    """A command that was started, in a process group of its own."""

    def __init__(self, command: str, mark: str) -> None:
        self.command = command
        self.began = time.monotonic()
        self.code: int | None = None
        self.unheard: list[bytes] = []
        self.process = subprocess.Popen(
            shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, env={**os.environ, MARK: mark},
        )  # fmt: skip

    @property
    def took(self) -> str:
        return minutes(time.monotonic() - self.began)


class Lanes:
    """Give it commands, `run` once."""

    def __init__(self, commands: Sequence[str], lanes: int) -> None:
        self._waiting = list(commands)
        self._lanes = lanes
        self._mark = uuid.uuid4().hex
        self._running: list[Job] = []  # by when they began: the first is heard
        self._events: queue.Queue[tuple[Job, bytes | int]] = queue.Queue()  # lines, and in the end the exit code
        self._began = time.monotonic()
        self._signal = 0

    def run(self) -> int:
        """The exit code: 0, that of the first that failed, or 128 and the number of the signal that came."""
        before = {number: signal.signal(number, self._take) for number in SIGNALS}
        try:
            return self._run()
        finally:
            self._end_strays()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _run(self) -> int:
        code = 0
        told = time.monotonic()
        while self._running or (self._waiting and not code):
            while self._waiting and len(self._running) < self._lanes and not code:
                self._start(self._waiting.pop(0))
            if self._signal and not code:
                code = 128 + self._signal
                self._say(f"signal {self._signal}: everything is being ended")
                self._end_all()
            try:
                job, event = self._events.get(timeout=0.2)
            except queue.Empty:
                if time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    self._say(", ".join(f"{job.command} for {job.took}" for job in self._running))
                continue
            if isinstance(event, bytes):
                job.unheard.append(event)
                if job is self._running[0]:
                    self._hear(job)
                continue
            self._over(job, event, ended=bool(code))
            if event and not code:
                code = event if event > 0 else 128 - event
                self._end_all()
        return code

    def _start(self, command: str) -> None:
        job = Job(command, self._mark)
        self._running.append(job)
        beside = f", beside {self._running[0].command}; it is heard later" if len(self._running) > 1 else ""
        self._say(f"{command} begins{beside}")
        reader = threading.Thread(target=self._read, args=(job,), daemon=True)
        reader.start()
        threading.Thread(target=self._wait, args=(job, reader), daemon=True).start()

    def _read(self, job: Job) -> None:
        assert job.process.stdout is not None
        for line in job.process.stdout:
            self._events.put((job, line))

    def _wait(self, job: Job, reader: threading.Thread) -> None:
        code = job.process.wait()
        reader.join(5.0)  # longer only when something else has its output, and is not gone
        self._events.put((job, code))

    def _over(self, job: Job, code: int, *, ended: bool) -> None:
        job.code = code
        first = job is self._running[0]
        if not first:
            self._say(f"what {job.command} said:")
        self._hear(job)
        self._running.remove(job)
        how = "was ended" if ended and code else "passed" if code == 0 else f"FAILED with code {code}"
        self._say(f"{job.command} {how} after {job.took}")
        if first and self._running:
            self._say(f"what {self._running[0].command} says:")
            self._hear(self._running[0])

    def _hear(self, job: Job) -> None:
        for line in job.unheard:
            sys.stdout.buffer.write(line if line.endswith(b"\n") else line + b"\n")
        job.unheard.clear()
        sys.stdout.flush()

    def _say(self, text: str) -> None:
        sys.stdout.write(f"== {minutes(time.monotonic() - self._began)}: {text}\n")
        sys.stdout.flush()

    def _take(self, number: int, _: FrameType | None) -> None:
        self._signal = self._signal or number

    def _end_all(self) -> None:
        """Ask everything that runs to end, as Ctrl-C would, so that tests take down what they have set up."""
        for job in self._running:
            threading.Thread(target=end, args=(job.process,), daemon=True).start()

    def _end_strays(self) -> None:
        """What is left of the commands ends by itself or is ended."""
        deadline = time.monotonic() + STRAY_SECONDS
        while (left := marked(self._mark)) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid, what in left.items():
            self._say(f"killing what was left over: {what}")
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group, more and more firmly."""
    for number, seconds in GRACE:
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
        return


def marked(mark: str) -> dict[int, str]:
    """Processes that were started here, or by what was started here, with their command lines."""
    found = {}
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                found[int(entry.name)] = words[:150].strip()
        except OSError:  # gone, or of another user
            continue
    return found


def minutes(seconds: float) -> str:
    """As 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


if __name__ == "__main__":
    sys.exit(Lanes(sys.argv[2:], int(sys.argv[1])).run())
