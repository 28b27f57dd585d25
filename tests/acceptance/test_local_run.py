"""`make run` as a process: interrupted, killed, run again; with and without a terminal."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import requests

from tests.support.website import TestWebsite, page

ROOT = Path(__file__).parents[2]
PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(scope="module", autouse=True)
def orphans_come_to_us() -> Iterator[None]:
    """Whatever a run leaves behind becomes a child of this process, where it cannot hide."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def descendants() -> set[int]:
    """Living processes below this one."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    parents[int(entry.name)] = int(fields[1])
    found: set[int] = set()
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and pid != os.getpid():
            found.add(pid)
    return found


def reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


class Run:
    """A run in its own process; its output is read as it comes."""

    def __init__(self, folder: Path, *arguments: str, terminal: bool = False, **environment: str) -> None:
        self.before = descendants()
        self.output = ""
        command = [sys.executable, "-m", "include.gleaner.local", *(arguments or ("run",)), "--folder", str(folder)]
        if terminal:
            reader, writer = pty.openpty()
        else:
            reader, writer = os.pipe()
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, start_new_session=True,
            env=os.environ | environment,
        )  # fmt: skip
        os.close(writer)
        self._reader = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self._reader.start()

    def _read(self, reader: int) -> None:
        with contextlib.suppress(OSError):  # a terminal whose other end has gone says EIO
            while text := os.read(reader, 65_536):
                self.output += text.decode("utf-8", "replace")
        os.close(reader)

    def read_to_the_end(self) -> None:
        """What it said last may be read after it has ended."""
        self._reader.join(10)

    def wait_for(self, text: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.output}"
            time.sleep(0.02)

    def end(self, seconds: float = 240) -> int:
        """Wait for the end; the exit code, when nothing is left of it."""
        code = self.process.wait(seconds)
        self.read_to_the_end()
        deadline = time.monotonic() + 30  # a guardian that outlives its starter needs a moment for its work
        while (left := descendants() - self.before) and time.monotonic() < deadline:
            reap()
            time.sleep(0.1)
        assert not left, f"{[Path(f'/proc/{pid}/cmdline').read_bytes() for pid in left]} still run"
        return code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local") / "data"


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("making a new database", signal.SIGINT),
        ("starting scheduler", signal.SIGTERM),
        ("triggered", signal.SIGINT),
        ("triggered", signal.SIGKILL),
    ],
    ids=["database", "airflow", "run", "killed"],
)
def test_an_end_at_any_moment_leaves_no_process(folder: Path, moment: str, number: signal.Signals) -> None:
    run = Run(folder)
    run.wait_for(moment if moment != "making a new database" else "Postgres")
    run.process.send_signal(number)
    code = run.end(120)
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 128 + number, run.output
        assert "stopped" in run.output
        assert "Traceback" not in run.output


def test_after_all_that_a_run_succeeds_and_reports(folder: Path) -> None:
    run = Run(folder)
    assert run.end() == 0, run.output
    assert "with the data of the last run" in run.output
    assert "ended manual__" in run.output  # the runs that were cut off are not taken up beside the new one
    assert "0 pages not chunked, 0 chunks without a vector" in run.output
    assert run.output.count("Search: ") == 3
    assert "nothing found" not in run.output
    assert "هزینه ارسال به ایران" in run.output
    for name in ("passwords.json", "secrets.json"):
        assert stat.S_IMODE((folder / "airflow" / name).stat().st_mode) == 0o600
    password = (folder / "airflow" / "passwords.json").read_text("utf-8").split('"')[3]
    assert password not in run.output  # it was shown once, at the first start


def test_a_second_run_on_a_terminal_costs_nothing_and_says_that_data_was_reused(folder: Path) -> None:
    run = Run(folder, terminal=True)
    assert run.end() == 0, run.output
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", run.output)
    assert "The data of the last run was reused" in plain
    assert re.search(r"This run\s+0 chunks created, 0 updated, 0 unchanged, 0 deleted", plain)
    assert re.search(r"Vectors\s+0 computed", plain)


def test_any_website_for_any_tenant(folder: Path) -> None:
    names = [f"page{number}" for number in range(9)]
    with TestWebsite() as site:
        site.routes = {"/": page("The home page of a company that sells apples.", *[f"/{name}" for name in names])}
        site.routes |= {f"/{name}": page(f"What {name} says about apples is said nowhere else.") for name in names}
        arguments = ("run", "--url", site.url, "--tenant", "acme", "--max-pages", "4")
        run = Run(folder, *arguments, GLEANER_LOCAL_HOSTS=site.host)
        assert run.end() == 0, run.output
    assert re.search(r"Crawl\s+partial \(max_pages\): 10 pages found, 4 asked for", run.output)
    assert re.search(r"Chunks stored\s+4 website", run.output)
    assert run.output.count("Search: ") == 3
    assert "nothing found" not in run.output


def test_up_stays_up_until_it_is_told_to_end(folder: Path) -> None:
    hour = this_hour()
    up = Run(folder, "up", GLEANER_LATE_AFTER_MINUTES="0.01")
    up.wait_for("Ctrl-C ends all of it")
    urls = re.findall(r"http://127\.0\.0\.1:\d+", up.output)
    for url, sign in zip(urls, ("Airflow", "Brook"), strict=True):
        assert sign in requests.get(url, timeout=60).text
    password = re.search(r'"admin": "([^"]+)"', (folder / "airflow" / "passwords.json").read_text("utf-8"))
    assert password is not None
    token = requests.post(f"{urls[0]}/auth/token", json={"username": "admin", "password": password[1]}, timeout=60)
    assert token.status_code == 201
    runs = wait_for_a_late_run(folder, urls[0], token.json()["access_token"])
    assert 1 <= runs <= 1 + this_hour() - hour  # none for the hours before, one more if an hour has ended meanwhile
    assert up.process.poll() is None
    up.process.send_signal(signal.SIGINT)
    assert up.end() == 130


def this_hour() -> int:
    """Hours since the epoch."""
    return int(time.time() // 3_600)


def wait_for_a_late_run(folder: Path, url: str, token: str) -> int:
    """The upkeep goes on by itself; its first run takes longer than the half second after which it is late here.

    Gives back how many runs there are.
    """
    callback = (
        "SELECT c.output FROM deadline d JOIN dag_run r ON r.id = d.dagrun_id JOIN callback c ON c.id = d.callback_id"
        " WHERE r.dag_id = 'maintain_knowledge' AND d.missed AND c.state = 'success'"
    )
    password, port = ((folder / "postgres" / name).read_text("utf-8").strip() for name in ("password", "port"))
    deadline = time.monotonic() + 120
    with psycopg.connect(
        host="127.0.0.1", port=port, user="gleaner", password=password, dbname="airflow", autocommit=True
    ) as conn:
        while not (rows := conn.execute(callback.encode()).fetchall()):
            assert time.monotonic() < deadline, "no run was told to be late"
            time.sleep(0.3)
    assert re.match(r"maintain_knowledge: run scheduled__\S+ is late; it is \w+, queued at 20\d\d-", str(rows[0][0]))
    while not any("is late; it is" in path.read_text("utf-8", "replace") for path in logs_of(folder, "trigger")):
        assert time.monotonic() < deadline, "the log does not say so"  # it is written beside the database
        time.sleep(0.3)
    runs = requests.get(
        f"{url}/api/v2/dags/maintain_knowledge/dagRuns", headers={"Authorization": f"Bearer {token}"}, timeout=60
    ).json()
    return int(runs["total_entries"])


def logs_of(folder: Path, name: str) -> list[Path]:
    return list((folder / "airflow").rglob(f"*{name}*.log"))


def test_two_runs_do_not_share_a_folder(folder: Path) -> None:
    first = Run(folder)
    first.wait_for("Postgres")
    second = Run(folder)
    assert second.process.wait(90) == 1
    second.read_to_the_end()
    assert "another run is using" in second.output
    first.process.send_signal(signal.SIGINT)
    assert first.end() == 130


def test_a_port_in_use_is_one_clear_line(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = Run(folder, "run", "--port", str(taken.getsockname()[1]))
        assert run.end() == 1
    last = run.output.strip().splitlines()[-1]
    assert "is in use" in last
    assert "Traceback" not in run.output


@pytest.mark.parametrize("arguments", [("run", "--url", "not an address"), ("run", "--tenant", "Not A Tenant")])
def test_a_bad_option_is_one_clear_line_before_anything_starts(folder: Path, arguments: tuple[str, ...]) -> None:
    run = Run(folder, *arguments)
    assert run.end() == 1
    assert run.output.startswith("gleaner: Param ")
    assert len(run.output.strip().splitlines()) == 1


def test_clean_removes_everything(folder: Path) -> None:
    run = Run(folder, "clean")
    assert run.end() == 0
    assert not folder.exists()
