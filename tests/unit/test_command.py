"""`gleaner`: what it is given wrongly is one line, and never everybody's."""

from __future__ import annotations

from typing import Any

import pytest

from include.gleaner.cli import connect
from include.gleaner.cli.app import main


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
