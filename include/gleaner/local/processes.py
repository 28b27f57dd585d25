"""Processes that never outlive the one that started them.

Each component runs in a session of its own, and its record (pid, start time, boot) lies in the run folder. Whoever
wants it gone ends every process of that session, found by id and never by name. A *guardian* waits on a pipe from the
starter: when the starter dies, by whatever signal, the pipe closes and the guardian ends all recorded sessions. Should
both be killed, the next start sweeps what the records still name.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from include.gleaner.errors import SetupError
from include.gleaner.local.interrupts import held_back

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
POLL_SECONDS: Final = 0.05
KILL_SECONDS: Final = 60  # a process that writes to a slow disk ends when that is done, killed or not


@dataclass(frozen=True, kw_only=True)
class Record:
    """Which session a component runs in; enough to know it again after its starter died."""

    name: str
    pid: int  # of the session's leader, and so the session's id
    started: int  # clock ticks since boot, from /proc/PID/stat; 0 where there is no /proc
    boot: str
    stop_signal: int
    grace_seconds: float


class ProcessGroup:
    """The components of one stack, recorded in `run_dir` (a folder of their own)."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._running: dict[str, tuple[subprocess.Popen[bytes], Record]] = {}
        self._guardian: subprocess.Popen[bytes] | None = None

    def guard(self) -> None:
        """Start the guardian. Everything that is recorded ends when this process does."""
        self._run_dir.mkdir(parents=True, exist_ok=True)
        self._guardian = subprocess.Popen(
            [sys.executable, "-m", "include.gleaner.local.processes", str(self._run_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[3],
            start_new_session=True,
        )

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_seconds: float = 10.0,
    ) -> subprocess.Popen[bytes]:
        """Start `command` in a session of its own, with its output in `log`."""
        self._run_dir.mkdir(parents=True, exist_ok=True)
        with held_back(), log.open("ab") as output:
            process = subprocess.Popen(
                command,
                env=None if env is None else dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            record = Record(
                name=name,
                pid=process.pid,
                started=_start_time(process.pid),
                boot=_boot(),
                stop_signal=stop_signal,
                grace_seconds=grace_seconds,
            )
            temporary = self._run_dir / f".{name}.tmp"
            temporary.write_text(json.dumps(asdict(record)), "utf-8")
            temporary.replace(self._run_dir / f"{name}.json")
            self._running[name] = (process, record)
        return process

    def stop(self, *names: str) -> None:
        """End these components and all that they started, side by side; wait until they are gone."""
        chosen = [self._running.pop(name) for name in names if name in self._running]
        _end([record for _, record in chosen], reap=lambda: [process.poll() for process, _ in chosen])
        for _, record in chosen:
            (self._run_dir / f"{record.name}.json").unlink(missing_ok=True)

    def close(self) -> None:
        """End everything that still runs, and the guardian."""
        self.stop(*self._running)
        if self._guardian is not None and self._guardian.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guardian.stdin.close()
            self._guardian.wait()
            self._guardian = None


def sweep(run_dir: Path) -> list[str]:
    """End what an earlier starter left behind; the names of it."""
    found = []
    for path in sorted(run_dir.glob("*.json")):
        try:
            record = Record(**json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError):
            path.unlink(missing_ok=True)  # cut off while it was written: the process had not been started for good
            continue
        found.append((path, record))
    alive = [record.name for _, record in found if _members(record)]
    # Postgres last: what is connected to it ends better while it is there.
    for part in (
        [record for _, record in found if record.name != "postgres"],
        [record for _, record in found if record.name == "postgres"],
    ):
        _end(part, reap=lambda: None)
    for path, _ in found:
        path.unlink(missing_ok=True)
    return alive


def _end(records: Sequence[Record], reap: Callable[[], object]) -> None:
    """Ask each session to end, then after its grace make it; `reap` collects children so that none stays a zombie."""
    for record in records:
        # First the leader alone: it knows best how to end its children.
        if _members(record):
            _signal(record.pid, record.stop_signal)
    deadline = time.monotonic() + max((record.grace_seconds for record in records), default=0.0)
    while time.monotonic() < deadline:
        reap()
        waiting = [record for record in records if _members(record)]
        if not waiting:
            return
        for record in waiting:
            if not _is_alive(record.pid):  # the leader has gone and left somebody behind
                for pid in _members(record):
                    _signal(pid, signal.SIGTERM)
        time.sleep(POLL_SECONDS)
    deadline = time.monotonic() + KILL_SECONDS
    while True:
        reap()
        left = [pid for record in records for pid in _members(record)]
        if not left:
            return
        for pid in left:
            _signal(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise SetupError(f"processes {left} do not end; end them by hand before the next start")
        time.sleep(POLL_SECONDS)


def _members(record: Record) -> list[int]:
    """Living processes of the record's session; none when the record is of another boot or its id was given anew."""
    if record.boot != _boot():
        return []
    if not Path("/proc").is_dir():
        return [record.pid] if _is_alive(record.pid) else []
    if _is_alive(record.pid) and _start_time(record.pid) != record.started:
        return []
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            # fields after the command's name: state, ppid, pgrp, session, ...
            if fields and fields[0] not in "ZX" and int(fields[3]) == record.pid:
                found.append(int(entry.name))
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _start_time(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def _is_alive(pid: int) -> bool:
    fields = _stat(pid)
    if fields:
        return fields[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return not Path("/proc").is_dir()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _boot() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def _guard(run_dir: Path) -> None:
    """The guardian: wait for the end of the starter, then end what it recorded."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    sweep(run_dir)


if __name__ == "__main__":
    _guard(Path(sys.argv[1]))
