"""What the scheduler loads for the tasks that are forked from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_libraries_are_loaded_without_a_thread_and_without_gleaners_own_code() -> None:
    count, missing, own, threads = preloaded()
    assert count > 300
    assert missing == []
    assert own == ["include.gleaner.preloading"]  # a change of the others needs no restart
    assert threads == 1  # a fork would lose the others


def test_the_vocabulary_of_the_token_counter_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import toktok

    from include.gleaner import preloading

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
