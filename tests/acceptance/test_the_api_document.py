"""Every example of docs/api.md, run as it stands and in its order, and every answer that it promises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from include.gleaner.local.airflow import ADMIN, VIEWER
from tests.acceptance.conftest import DAG, Gleaner

RUN = "acme-2026-03-01"


@pytest.fixture(scope="module")
def examples(root: Path) -> list[tuple[str, str]]:
    found = re.findall(r"```(bash|python)\n(.*?)```", (root / "docs/api.md").read_text("utf-8"), re.DOTALL)
    assert [language for language, _ in found].count("bash") == 8
    return found


@pytest.fixture(scope="module")
def environment(gleaner: Gleaner) -> dict[str, str]:
    gleaner.api.unpause("rebuild_knowledge")
    return {
        **os.environ, "AIRFLOW": gleaner.stack.airflow.url, "PASSWORD": gleaner.stack.airflow.password,
        "WEBSITE": str(gleaner.stack.website_url), "NO_PROXY": "*", "no_proxy": "*",
    }  # fmt: skip


def shell(environment: dict[str, str], *scripts: str) -> Any:
    """What the last of the scripts prints, as JSON; they share one shell."""
    text = "\n".join(("set -e", *scripts))
    done = subprocess.run(["bash", "-c", text], env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_examples_do_what_they_say(
    gleaner: Gleaner, examples: list[tuple[str, str]], environment: dict[str, str]
) -> None:
    login, ingest, follow, tasks, report, cancel, dry, rebuild = [
        text.strip() for language, text in examples if language == "bash"
    ]
    assert shell(environment, login, ingest)["dag_run_id"] == RUN
    deadline = time.monotonic() + 120
    while (state := shell(environment, login, follow)["state"]) not in ("success", "failed"):
        assert time.monotonic() < deadline
        time.sleep(1)
    assert state == "success"
    names = {task["task_id"] for task in shell(environment, login, tasks)["task_instances"]}
    assert {"crawl", "process", "reconcile"} <= names
    value = shell(environment, login, report)["value"]
    table = (Path(__file__).parents[2] / "docs/api.md").read_text("utf-8").split("| Field | |")[1].split("##")[0]
    fields = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", table, re.MULTILINE))))
    assert fields <= set(value)
    assert value["crawl"]["state"] == "partial"  # three pages only
    assert len(shell(environment, login, dry)["backfills"]) == 7
    rebuilt = shell(environment, login, rebuild)["dag_run_id"]
    assert gleaner.api.dag_run("rebuild_knowledge", rebuilt)["conf"]["until"] == "2026-03-08"
    assert shell(environment, login, cancel)["state"] == "failed"


def test_the_python_example_prints_the_gap(examples: list[tuple[str, str]], environment: dict[str, str]) -> None:
    (script,) = [text for language, text in examples if language == "python"]
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, text=True, capture_output=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("success {")
    assert "'pages_not_chunked': 0" in done.stdout


@pytest.mark.parametrize(
    ("conf", "status", "told"),
    [
        ({"tenant": "Not A Tenant"}, 400, "tenant"),
        ({"url": "not an address"}, 400, "url"),
        ({"url": "ftp://example.com/"}, 400, "url"),
        ({"max_pages": 0}, 400, "max_pages"),
        ({"max_pages": "many"}, 400, "max_pages"),
        ({"max_depth": 101}, 400, "max_depth"),
        ({"include_patterns": "a"}, 400, "include_patterns"),
        ({"exclude_patterns": [1]}, 400, "exclude_patterns"),
        ({"delay_seconds": -1}, 400, "delay_seconds"),
        ({"batch_size": 1.5}, 400, "batch_size"),
        ({"chunk_tokens": 10}, 400, "chunk_tokens"),
        ({"chunk_overlap": 90}, 400, "chunk_overlap"),
        ({"chunk_encoding": "latin"}, 400, "chunk_encoding"),
        ({"embed_tldr": "yes"}, 400, "embed_tldr"),
        ({"max_failed_share": 2}, 400, "max_failed_share"),
        ({"max_delete_share": -0.1}, 400, "max_delete_share"),
        ({"pages_per_minute": -1}, 400, "pages_per_minute"),
        ({"jitter_seconds": 9_999}, 400, "jitter_seconds"),
        ({"dry_run": 1}, 400, "dry_run"),
    ],
)
def test_a_bad_param_is_named_and_nothing_runs(gleaner: Gleaner, conf: dict[str, Any], status: int, told: str) -> None:
    good = {"tenant": "acme", "url": gleaner.stack.website_url}
    answer = call(gleaner, ADMIN, {"logical_date": None, "conf": good | conf})
    assert answer.status_code == status
    assert told in answer.json()["detail"]


def test_the_other_answers(gleaner: Gleaner, examples: list[tuple[str, str]]) -> None:
    good = {"logical_date": None, "conf": {"tenant": "acme", "url": gleaner.stack.website_url, "max_pages": 1}}
    twice = {**good, "dag_run_id": "the-same-twice"}
    assert [call(gleaner, ADMIN, twice).status_code for _ in range(2)] == [200, 409]
    assert call(gleaner, VIEWER, good).status_code == 403
    assert call(gleaner, None, good).status_code == 401
    assert call(gleaner, ADMIN, good, dag_id="no_such_dag").status_code == 404
    assert call(gleaner, ADMIN, {"conf": good["conf"]}).status_code == 422


def call(gleaner: Gleaner, user: str | None, body: dict[str, Any], *, dag_id: str = DAG) -> requests.Response:
    base = gleaner.stack.airflow.url
    with requests.Session() as session:
        session.trust_env = False
        if user is not None:
            passwords = json.loads(gleaner.stack.airflow.password_file.read_text("utf-8"))
            login = {"username": user, "password": passwords[user]}
            token = session.post(f"{base}/auth/token", json=login, timeout=20).json()["access_token"]
            session.headers["Authorization"] = f"Bearer {token}"
        return session.post(f"{base}/api/v2/dags/{dag_id}/dagRuns", json=body, timeout=20)
