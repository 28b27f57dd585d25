"""Runners of migrations, backups and restores that can be killed, and migrations that no release has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from include.gleaner.ops.migrations import Migration, migrations

ROOT = Path(__file__).parents[2]
MODULES = tuple(f"include.gleaner.ops.{module}.migrations" for module in ("migrate", "rollback", "verify"))

# Forks a child for each line of JSON, which does what the line says; tells its number, then how it ended.
FORKER = """
import importlib, json, os, pathlib, sys
from include.gleaner.ops import backup, migrate, migrations, restore, rollback
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            call = json.loads(line)
            extra = tuple(migrations.Migration(**fields) for fields in call["extra"])
            shipped = migrations.migrations()
            for module in (migrate, rollback):
                module.migrations = lambda: (*shipped, *extra)
            if call["action"] == "migrate":
                migrate.migrate(call["dsn"])
            elif call["action"] == "rollback":
                rollback.rollback(call["dsn"], call["to"], lose_data=True)
            elif call["action"] == "backup":
                backup.back_up(call["dsn"], pathlib.Path(call["folder"]))
            else:
                restore.restore(call["dsn"], pathlib.Path(call["dump"]), replace=True)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

Start = Callable[..., tuple[int, Callable[[], int]]]


@contextmanager
def runners() -> Iterator[Start]:
    """Starts runners: (process id, a wait for its exit code)."""
    process = subprocess.Popen(
        [sys.executable, "-c", FORKER], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    def told() -> int:
        return int(stdout.readline())

    def start(action: str, extra: tuple[Migration, ...] = (), **values: Any) -> tuple[int, Callable[[], int]]:
        call = {"action": action, "extra": [asdict(migration) for migration in extra], **values}
        stdin.write(json.dumps(call, default=str) + "\n")
        stdin.flush()
        return told(), told

    try:
        assert stdout.readline().strip() == "ready"
        yield start
    finally:
        stdin.close()
        process.wait(60)
        stdout.close()


def ship(patch: pytest.MonkeyPatch, *extra: Migration) -> None:
    """As if these were among the migrations of this code."""
    shipped = migrations()
    for name in MODULES:
        patch.setattr(name, lambda: (*shipped, *extra))
