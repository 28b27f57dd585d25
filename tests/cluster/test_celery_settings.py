"""A Celery worker loads the libraries of the tasks before it forks; nothing else that uses Celery does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.gleaner.local.cluster import Cluster

ROOT = Path(__file__).parents[2]
# What `airflow celery worker` does before it forks: makes the app, then imports what its tasks need.
SCRIPT = """
import json, sys
sys.argv = json.loads(sys.argv[1])
from airflow.providers.celery.executors.celery_executor import app
from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
before = "openai" in sys.modules
app.loader.import_default_modules()
same = all(app.conf[name] == value for name, value in DEFAULT_CELERY_CONFIG.items())
own = sorted(name for name in sys.modules if name.startswith("include.gleaner."))
print("RESULT" + json.dumps([before, "openai" in sys.modules, same, own]))
"""


@pytest.mark.parametrize(
    ("arguments", "loaded"), [(["airflow", "celery", "worker"], True), (["airflow", "scheduler"], False)]
)
def test_a_worker_loads_the_libraries_and_no_other_process(arguments: list[str], loaded: bool, tmp_path: Path) -> None:
    settings = Cluster(broker_url="redis://127.0.0.1:1/0").settings("postgresql+psycopg2://nobody@127.0.0.1:1/airflow")
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    env |= {**settings, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(arguments)], cwd=ROOT, env=env, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    before, after, same, own = json.loads(told.stdout.rpartition("RESULT")[2])
    assert (before, after, same) == (False, loaded, True)
    assert ("include.gleaner.pipeline.loading" in own) == loaded
