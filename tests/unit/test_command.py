"""`gleaner`: what it is given wrongly is one line, and never everybody's."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from include.gleaner.cli import app, connect
from include.gleaner.cli.app import main
from include.gleaner.errors import RequestError


class _Airflow:
    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def backfill(self, body: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
        self.asked.append(body)
        return {"backfills": []}


def test_a_tenant_that_is_empty_is_not_everybody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `--tenant "$TENANT"` where that variable is not set."""
    airflow = _Airflow()
    monkeypatch.setattr(connect, "airflow", lambda: airflow)
    days = ["backfill", "2026-03-01", "2026-03-02", "--dry-run"]
    assert main([*days, "--tenant", ""]) == 1
    assert "--tenant" in capsys.readouterr().err
    assert airflow.asked == []
    assert main(days) == main([*days, "--tenant", "acme"]) == 0
    assert [body["dag_run_conf"] for body in airflow.asked] == [{}, {"tenant": "acme"}]


class _Restarted(_Airflow):
    """An API server that is started again while a run goes on."""

    def __init__(self, *answers: Exception | str) -> None:
        super().__init__()
        self.answers = list(answers)

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        return "the-run"

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {"state": answer, "conf": {}, "start_date": None, "end_date": None}

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return []

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> None:
        return None


def test_a_run_is_waited_for_across_a_restart_of_the_api_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused, gone = RequestError("Airflow refuses GET with 502: Bad Gateway"), requests.ConnectionError("no")
    monkeypatch.setattr(app, "POLL_SECONDS", 0.0)
    for answers, code in ((["running", gone, refused, gone, "success"], 0), (["queued", gone, "failed"], 1)):
        monkeypatch.setattr(connect, "airflow", lambda answers=answers: _Restarted(*answers))
        assert main(["ingest", "acme", "https://example.com/", "--wait", "--json"]) == code
        assert json.loads(capsys.readouterr().out)["state"] == answers[-1]
    monkeypatch.setattr(app, "PATIENCE_SECONDS", 0.0)
    for fault in (gone, refused):
        monkeypatch.setattr(connect, "airflow", lambda fault=fault: _Restarted(fault))
        assert main(["ingest", "acme", "https://example.com/", "--wait"]) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), "status the-run" in err) == ("", 1, True)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1", f"http://{'a' * 70}.localhost:1", "http://[::1", "127.0.0.1", "http://\udcff"]
)
def test_an_address_that_is_none_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    monkeypatch.setenv("GLEANER_AIRFLOW_URL", address)
    monkeypatch.setenv("GLEANER_AIRFLOW_USER", "admin")
    monkeypatch.setenv("GLEANER_AIRFLOW_PASSWORD", "not-for-logs")
    assert main(["status", "run"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), "not-for-logs" in err) == ("", 1, False)
    assert "look at GLEANER_AIRFLOW_URL" in err
