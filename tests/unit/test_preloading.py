"""What the scheduler loads for the tasks that are forked from it."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from include.gleaner import preloading, scheduling
from include.gleaner.config import DEFAULT_ENCODING

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, os, sys, threading
from include.gleaner import preloading
count = preloading.preload()
own = [name for name in sys.modules if name.startswith("include.gleaner.")]
missing = [name for name in preloading.LIBRARIES if name not in sys.modules]
print("RESULT" + json.dumps([count, missing, own, len(os.listdir("/proc/self/task"))]))
"""


def preloaded(**environment: str) -> tuple[int, list[str], list[str], int]:
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    count, missing, own, threads = json.loads(told.stdout.rpartition("RESULT")[2])
    return count, missing, own, threads


def test_libraries_and_what_tasks_run_are_loaded_without_a_thread() -> None:
    count, missing, own, threads = preloaded()
    assert count > 300
    assert missing == []
    assert {f"include.gleaner.{name}" for name in preloading.OWN} <= set(own)
    assert threads == 1  # a fork would lose the others


def test_nothing_that_a_task_of_an_ingest_imports_itself_is_left_out() -> None:
    source = (ROOT / "include/gleaner/pipeline/ingest_tasks.py").read_text("utf-8")
    found = re.findall(r"^    from include\.gleaner\.(\S+) import (.+)", source, re.MULTILINE)
    inside = {f"{module}.{names}" if module == "pipeline" else module for module, names in found}
    loaded = {name.removeprefix("include.gleaner.") for name in preloaded()[2]}
    assert len(inside) > 15
    assert inside <= loaded


FORKED = """
import json, os, pathlib, sys, time
from include.gleaner import preloading
preloading.preload()

def told_by_a_fork():
    read, write = os.pipe()
    if os.fork() == 0:
        loaded = "include.gleaner.pipeline.pacing" in sys.modules
        from include.gleaner.pipeline import pacing
        os.write(write, json.dumps([loaded, getattr(pacing, "CHANGED", 0)]).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(read, 100))

told = [told_by_a_fork()]
path = pathlib.Path(sys.modules["include.gleaner.pipeline.pacing"].__file__)
path.write_text(path.read_text("utf-8") + "CHANGED = 1", "utf-8")
os.utime(path, (time.time() + 5, time.time() + 5))
told.append(told_by_a_fork())
print("RESULT" + json.dumps(told))
"""


def test_a_task_runs_what_is_loaded_and_after_a_change_what_is_written(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "include", tmp_path / "include", ignore=shutil.ignore_patterns("__pycache__", "static"))
    told = subprocess.run(
        [sys.executable, "-c", FORKED], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(told.stdout.rpartition("RESULT")[2]) == [[True, 0], [False, 1]]


def test_what_is_loaded_is_set_aside_until_the_collector_is_told_to_look_at_it_again() -> None:
    gc.unfreeze()
    try:
        for _ in range(2):
            preloading.set_aside()
            assert gc.get_freeze_count() > 10_000
            gc.unfreeze()
    finally:
        gc.unfreeze()


class Job:
    """What Airflow's listener is given when a component starts."""


class TaskRunnerMarker:
    """And when a task does."""


@pytest.mark.parametrize(
    ("component", "command", "expected"),
    [
        (Job(), "scheduler", ["preload", "pools"]),
        (Job(), "dag-processor", []),
        (TaskRunnerMarker(), "scheduler", []),  # forked from the scheduler, with its arguments
    ],
)
def test_what_a_scheduler_does_when_it_starts(
    component: object, command: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(sys, "argv", ["airflow", command])
    monkeypatch.setattr(scheduling, "is_local_scheduler", lambda: True)
    monkeypatch.setattr(scheduling, "preload", lambda: done.append("preload"))
    monkeypatch.setattr(scheduling, "make_missing_pools", lambda: done.append("pools"))
    scheduling.PoolKeeper().on_starting(component)
    assert done == expected


def test_the_vocabulary_of_the_token_counter_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import toktok

    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(preloading, "LIBRARIES", ("toktok",))
    monkeypatch.setattr(toktok, "truncate", lambda *asked_for: asked.append(asked_for))
    preloading.preload()
    assert [encoding for *_, encoding in asked] == [DEFAULT_ENCODING]


def test_it_can_be_switched_off() -> None:
    assert preloaded(GLEANER_PRELOAD="0")[0] == 0


@pytest.mark.parametrize(
    ("executor", "component", "expected"),
    [
        ("LocalExecutor", "scheduler", "True"),
        ("airflow.executors.local_executor.LocalExecutor", "scheduler", "True"),
        ("LocalExecutor", "triggerer", "False"),
        ("CeleryExecutor", "scheduler", "False"),
    ],
)
def test_only_a_scheduler_that_forks_its_tasks_loads_them(executor: str, component: str, expected: str) -> None:
    script = "from include.gleaner.preloading import is_local_scheduler as found; print('RESULT', found())"
    told = subprocess.run(
        [sys.executable, "-c", script, component], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "AIRFLOW__CORE__EXECUTOR": executor},
    )  # fmt: skip
    assert told.stdout.rpartition("RESULT ")[2].strip() == expected
