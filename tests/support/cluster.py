"""Airflow with Celery workers, Redis and a keeper that starts again what has ended, as a container engine would."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from include.gleaner.local.cluster import Cluster
from include.gleaner.local.stack import Stack, running
from tests.support.redis_server import RedisServer

CHECK_SECONDS = 0.5


class Keeper:
    """Starts components again when they have ended. `restarts` counts them, `hold` keeps it from doing so."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._end = threading.Event()
        self.hold = threading.Lock()
        self.restarts: dict[str, int] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join()

    def kill(self, name: str) -> None:
        """`kill -9` to a component and to everything below it, as when its machine is gone."""
        process = self._stack.airflow.components()[name]
        for pid in [process.pid, *_below(process.pid)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()

    def busiest_worker(self) -> str:
        """The worker with the most processes: each task that it works on is two."""
        workers = [name for name in self._stack.airflow.components() if name.startswith("worker-")]
        return max(workers, key=lambda name: len(_below(self._stack.airflow.components()[name].pid)))

    def _watch(self) -> None:
        while not self._end.wait(CHECK_SECONDS):
            with self.hold:
                for name, process in self._stack.airflow.components().items():
                    if process.poll() is not None:
                        self.restarts[name] = self.restarts.get(name, 0) + 1
                        self._stack.airflow.start_component(name)


def _below(pid: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found = []
    for other in parents:
        above = other
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and other != pid:
            found.append(other)
    return found


@contextmanager
def celery_stack(folder: Path, redis: RedisServer, *, workers: int = 3) -> Iterator[tuple[Stack, Keeper]]:
    """The stack with its workers, kept up."""
    with running(folder, sample=False, cluster=Cluster(broker_url=redis.url, workers=workers)) as stack:
        keeper = Keeper(stack)
        try:
            yield stack, keeper
        finally:
            keeper.close()
