"""An old table of 200,000 rows comes under the constraint while four processes write to it: how long the longest waits.

Every row has two vectors of 1,536 dimensions, as the origin's have; 2.4 GB. The server writes to the disk as it should.
A fifth process writes to a table of its own: what it waits for is the machine. So is what a small write to the disk
takes before anything else is done, and so are moments in which the disk was asked for something and finished nothing,
or in which the whole machine stood: they are looked for all the time, and taken away from the stalls in a row of its
own. Waits for locks, which alone are the adoption's doing, are looked at every few milliseconds. With TMPDIR=/dev/shm
there is no disk: then the stalls are the adoption's own.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from statistics import quantiles
from threading import Event, Thread

import psycopg

from include.gleaner.local.postgres import standalone
from include.gleaner.ops.adopt import adopt
from tests.support.old_table import CHUNKS_PER_SOURCE, TABLE, Worker, make_old_table

Row = tuple[str, str, str, bool]
ROWS, WRITERS, DOUBLE_SHARE = 200_000, 4, 0.05
PROBE_SECONDS, SETTLE_SECONDS, CALM_SECONDS, MOST_MS = 15.0, 15.0, 30.0, 100.0


def adoption() -> Iterator[Row]:
    """The longest stall of a writer before and during the adoption, and whether every row is accounted for."""
    with tempfile.TemporaryDirectory() as folder:
        server, processes = standalone(Path(folder) / "postgres", settings={"shared_buffers": "512MB"})
        try:
            slowest = _slowest_write(Path(folder) / "probe") * 1_000
            yield f"Longest write of 8 KB to the disk alone, in {PROBE_SECONDS:.0f} s", f"{slowest:.0f} ms", "", True
            server.start()
            server.create_database("bench")
            yield from _measure(server.dsn("bench"), Path(folder) / "stop")
        finally:
            processes.close()


def _measure(dsn: str, stop: Path) -> Iterator[Row]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        chunks = make_old_table(conn, ROWS, vector_every=1)
        conn.execute("VACUUM (FREEZE, ANALYZE) old.tenant_knowledge")  # long done for a table that is old
        conn.execute("CHECKPOINT")
        time.sleep(SETTLE_SECONDS)  # the disk goes on for some seconds with what it was given
        before = _ids(conn, TABLE)
        conn.execute("CREATE TABLE old.another (id bigint PRIMARY KEY)")
        waits, pauses = _LockWaits(dsn, conn.info.backend_pid), _Pauses(stop.parent)
        pauses.start()
        with ProcessPoolExecutor(WRITERS + 1, mp_context=get_context("spawn")) as pool:
            running = [pool.submit(_write, dsn, stop, number, chunks // CHUNKS_PER_SOURCE) for number in range(WRITERS)]
            other = pool.submit(_write_elsewhere, dsn, stop)
            time.sleep(CALM_SECONDS)
            waits.start()
            began = time.monotonic()
            told = adopt(conn, TABLE)
            ended = time.monotonic()
            waits.stop()
            time.sleep(1)
            pauses.stop()
            stop.touch()
            workers = [one.result() for one in running]
            elsewhere = max((spent for at, spent in other.result() if began <= at <= ended), default=0.01) * 1_000
        inserted = set[int]().union(*(one.inserted for one in workers))
        deleted = set[int]().union(*(one.deleted for one in workers))
        lost = len((before | inserted) - deleted - _ids(conn, TABLE) - _ids(conn, f"{TABLE}_removed"))
    calm = [spent for one in workers for at, spent in one.slow if at < began]
    busy = [spent for one in workers for at, spent in one.slow if began <= at <= ended]
    longest = max(busy, default=0.01) * 1_000
    own = [spent - pauses.within(at, at + spent) for one in workers for at, spent in one.slow if began <= at <= ended]
    machine = pauses.longest(began - CALM_SECONDS, began) * 1_000, pauses.longest(began, ended) * 1_000
    added = max(own, default=0.01) * 1_000
    writes = sum(one.writes for one in workers)
    removed = told.removed_identical + told.removed_older
    yield f"Adoption of {len(before):,} rows, {removed:,} removed", f"{ended - began:.1f} s", "", True
    yield f"Builds of the unique index, with {writes:,} writes by {WRITERS} processes", str(told.builds), "", True
    yield "Longest stall of a writer before it", f"{max(calm, default=0.01) * 1_000:.0f} ms", "", True
    lock = waits.longest * 1_000
    yield "Longest wait for a lock during it", f"{lock:.0f} ms", f"≤ {MOST_MS:.0f} ms", lock <= MOST_MS
    yield "Longest stall of a writer during it", f"{longest:.0f} ms", f"≤ {MOST_MS:.0f} ms", longest <= MOST_MS
    yield (
        "Longest pause of the disk or the machine, before and during it",
        f"{machine[0]:.0f}, {machine[1]:.0f} ms",
        "",
        True,
    )
    yield "Longest stall during it without them", f"{added:.0f} ms", f"≤ {MOST_MS:.0f} ms", added <= MOST_MS
    yield "Longest stall of a writer to another table meanwhile", f"{elsewhere:.0f} ms", "", True
    if len(busy) > 100:
        most = quantiles(busy, n=100)[98] * 1_000
        yield f"Of the {len(busy)} writes above 10 ms, 99 in 100", f"≤ {most:.0f} ms", "", True
    yield "Doubles left, rows without a line", f"{told.doubles}, {lost}", "0, 0", told.doubles == lost == 0


def _slowest_write(path: Path) -> float:
    """Seconds that the slowest of many small synced writes to a file took, with nothing else at work."""
    slowest, until = 0.0, time.monotonic() + PROBE_SECONDS
    with path.open("wb") as file:
        while time.monotonic() < until:
            began = time.monotonic()
            os.pwrite(file.fileno(), bytes(8_192), 0)
            os.fdatasync(file.fileno())
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.005)
    return slowest


def _write(dsn: str, stop: Path, number: int, sources: int) -> Worker:
    return Worker(number=number, sources=sources, double_share=DOUBLE_SHARE, pause=0.005).run(dsn, stop.exists)


def _write_elsewhere(dsn: str, stop: Path) -> list[tuple[float, float]]:
    slow: list[tuple[float, float]] = []
    with psycopg.connect(dsn, autocommit=True) as conn:
        for number in count():
            if stop.exists():
                return slow
            began = time.monotonic()
            conn.execute("INSERT INTO old.another VALUES (%s)", (number,))
            if (spent := time.monotonic() - began) > 0.01:
                slow.append((began, spent))
            time.sleep(0.005)
    return slow


class _Pauses(Thread):
    """Moments in which the disk of a folder was asked for something and finished nothing, or the whole machine stood.

    A disk that is merely busy finishes something all the time.
    """

    STEP, LEAST = 0.01, 0.04  # seconds: how often it looks, and what counts

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        device = os.stat(folder).st_dev
        self._name, self._over = f" {os.major(device)} {os.minor(device)} ", Event()
        self._found: list[tuple[float, float]] = []

    def run(self) -> None:
        since, before, done = time.monotonic(), time.monotonic(), -1
        while not self._over.wait(self.STEP):
            now = time.monotonic()
            reads, writes, asked = self._counts()
            if now - before > self.LEAST:  # nobody woke this up
                self._found.append((before, now))
                since = now
            if reads + writes != done or not asked:
                if now - since > self.LEAST:
                    self._found.append((since, now))
                since, done = now, reads + writes
            before = now

    def _counts(self) -> tuple[int, int, int]:
        """Reads and writes that were finished, and requests that are under way; nothing where there is no such disk."""
        for line in Path("/proc/diskstats").read_text("ascii").splitlines():
            if f" {' '.join(line.split()[:2])} " == self._name:
                fields = line.split()
                return int(fields[3]), int(fields[7]), int(fields[11])
        return 0, 0, 0

    def within(self, begin: float, end: float) -> float:
        """Seconds of such moments in between."""
        return sum(max(0.0, min(end, b) - max(begin, a)) for a, b in self._found)

    def longest(self, begin: float, end: float) -> float:
        return max((b - a for a, b in self._found if begin <= a <= end), default=0.0)

    def stop(self) -> None:
        self._over.set()
        self.join()


class _LockWaits(Thread):
    """Looks who waits for a lock; `longest` is how long one session did without a pause, in seconds."""

    def __init__(self, dsn: str, adopting: int) -> None:
        super().__init__(daemon=True)
        self._dsn, self._adopting, self._over = dsn, adopting, Event()
        self.longest = 0.0

    def run(self) -> None:
        since: dict[int, float] = {}
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            while not self._over.wait(0.004):
                now = time.monotonic()
                rows = conn.execute(
                    "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> %s", (self._adopting,)
                ).fetchall()
                since = {pid: since.get(pid, now) for (pid,) in rows}
                self.longest = max([self.longest, *(now - at for at in since.values())])

    def stop(self) -> None:
        self._over.set()
        self.join()


def _ids(conn: psycopg.Connection, table: str) -> set[int]:
    return {one for (one,) in conn.execute(f"SELECT id FROM {table}".encode())}
