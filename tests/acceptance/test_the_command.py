"""The `gleaner` command against real Airflow and the real database, as its users type it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.gleaner.local.airflow import ADMIN
from tests.acceptance.conftest import Gleaner
from tests.support.embedding_server import API_KEY, EmbeddingServer

TENANT = "command"


class Command:
    """Runs it; `json` gives what it printed as one document."""

    def __init__(self, gleaner: Gleaner, root: Path, **environment: str) -> None:
        self._root = root
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("GLEANER_", "AIRFLOW"))},
            "PYTHONPATH": str(root),
            "GLEANER_AIRFLOW_URL": gleaner.stack.airflow.url,
            "GLEANER_AIRFLOW_USER": ADMIN,
            "GLEANER_AIRFLOW_PASSWORD": gleaner.stack.airflow.password,
            "GLEANER_DSN": gleaner.stack.dsn,
            **environment,
        }

    def __call__(self, *arguments: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
        found = {**self._environment, **environment}
        return subprocess.run(
            [sys.executable, "-m", "include.gleaner", *arguments], cwd=self._root, text=True, capture_output=True,
            env={name: value for name, value in found.items() if value is not None}, check=False, timeout=300,
        )  # fmt: skip

    def json(self, *arguments: str, code: int = 0) -> Any:
        done = self(*arguments, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def command(gleaner: Gleaner, root: Path, endpoint: EmbeddingServer, connection: None) -> Command:
    model = {"model": "text-embedding-3-small", "dimensions": 1_536}
    fields = {"conn_type": "generic", "host": endpoint.url, "password": API_KEY, "extra": model}
    return Command(gleaner, root, AIRFLOW_CONN_GLEANER_OPENAI=json.dumps(fields))


@pytest.fixture(scope="module")
def ingested(command: Command, gleaner: Gleaner) -> dict[str, Any]:
    url = str(gleaner.stack.website_url)
    told: dict[str, Any] = command.json("ingest", TENANT, url, "-p", "delay_seconds=0", "-p", "max_pages=12", "--wait")
    return told


def test_ingest_and_status(command: Command, ingested: dict[str, Any], gleaner: Gleaner) -> None:
    assert ingested["state"] == "success"
    assert (ingested["conf"]["tenant"], ingested["conf"]["max_pages"]) == (TENANT, 12)
    assert ingested["report"]["gap"]["pages_not_chunked"] == 0
    assert ingested["tasks"]["reconcile"] == {"success": 1}
    again = command.json("status", ingested["run_id"])
    assert again == ingested
    people = command("status", ingested["run_id"])
    assert f"{ingested['run_id']}: success" in people.stdout
    assert "Chunks stored: " in people.stdout


def test_search(command: Command, ingested: dict[str, Any], gleaner: Gleaner) -> None:
    ((heading, url),) = gleaner.rows(
        "SELECT section_title, metadata->>'page_url' FROM gleaner.tenant_knowledge WHERE tenant_id = %s"
        " ORDER BY length(section_title) DESC LIMIT 1", TENANT,
    )  # fmt: skip
    hits = command.json("search", heading, "-t", TENANT, "-k", "3")
    assert url in [hit["page_url"] for hit in hits]
    assert len(hits) == 3
    assert str(hits[0]["page_url"]) in command("search", heading, "-t", TENANT).stdout
    refused = command("search", heading, "-t", "nobody")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert "nobody has no knowledge" in refused.stderr


def test_backfill(command: Command, ingested: dict[str, Any], gleaner: Gleaner) -> None:
    days = command.json("backfill", "2026-04-01", "2026-04-03", "-t", TENANT, "--dry-run")["backfills"]
    assert len(days) == 3
    gleaner.api.unpause("rebuild_knowledge")
    refused = command("backfill", "2026-04-01", "2026-04-03", "-p", "stage=crawl")
    assert refused.returncode == 1
    assert "stage" in refused.stderr
    told = command("backfill", "2026-04-01", "2026-04-03", "-t", TENANT, "-p", "stage=chunk")
    assert told.returncode == 0, told.stderr
    assert "2026-04-01 to 2026-04-03 is under way" in told.stdout


def test_failures_and_replay(command: Command, ingested: dict[str, Any], gleaner: Gleaner) -> None:
    assert command.json("failures", "-t", TENANT) == []
    assert command.json("replay", "-t", TENANT) == {"failures": 0, "run_id": None}
    with gleaner.connect() as conn:
        conn.execute(
            "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, reason, attempts)"
            " SELECT tenant_id, 'load', page_id, 'ValueError', 6 FROM gleaner.website_page WHERE tenant_id = %s"
            " LIMIT 1",
            (TENANT,),
        )
    (failure,) = command.json("failures", "-t", TENANT)
    assert (failure["stage"], failure["reason"], failure["attempts"]) == ("load", "ValueError", 6)
    assert failure["url"] in command("failures", "-t", TENANT).stdout
    assert command.json("replay", "-t", TENANT, "--stage", "embed")["failures"] == 0
    told = command.json("replay", "-t", TENANT, "--stage", "load")
    assert told["failures"] == 1
    assert gleaner.api.dag_run("maintain_knowledge", told["run_id"])["state"] in ("queued", "running", "success")
    with gleaner.connect() as conn:
        conn.execute("DELETE FROM gleaner.dead_letter WHERE tenant_id = %s", (TENANT,))


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "told"),
    [
        (["ingest", "Bad Tenant", "https://example.com/"], {}, 1, "tenant"),
        (["ingest", "acme", "not an address"], {}, 1, "url"),
        (["ingest", "acme", "https://example.com/", "-p", "max_pages"], {}, 1, "NAME=VALUE"),
        (["ingest", "acme", "https://example.com/"], {"GLEANER_AIRFLOW_URL": None}, 1, "GLEANER_AIRFLOW_URL not set"),
        (["ingest", "acme", "https://example.com/"], {"GLEANER_AIRFLOW_PASSWORD": "wrong"}, 1, "login"),
        (["status", "no-such-run"], {"GLEANER_AIRFLOW_URL": "http://127.0.0.1:9"}, 1, "does not answer"),
        (["status", "no-such-run"], {}, 1, "404"),
        (["failures", "-t", "acme"], {"GLEANER_DSN": None}, 1, "GLEANER_DSN not set"),
        (["failures", "-t", "acme"], {"GLEANER_DSN": "host=127.0.0.1 port=9 password=secret"}, 1, "cannot be reached"),
        (["replay", "-t", "acme", "--stage", "crawl"], {}, 1, "stage"),
        (["failures"], {}, 2, "--tenant"),
        (["no-such-command"], {}, 2, "no-such-command"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(
    command: Command, arguments: list[str], environment: dict[str, str | None], code: int, told: str
) -> None:
    done = command(*arguments, **environment)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.stdout == ""
