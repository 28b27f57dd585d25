"""When a run counts as late, and what is said of it."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from include.gleaner import lateness


@pytest.mark.parametrize(
    ("value", "minutes"),
    [("", 120), ("30", 30), ("0.05", 0.05), ("soon", 120), ("-1", 120), ("nan", 120), ("inf", 120), ("1e9", 120)],
)
def test_the_limit_is_a_number_of_minutes(value: str, minutes: float) -> None:
    alert = lateness.deadline({lateness.VARIABLE: value})
    assert alert is not None
    assert alert.interval == timedelta(minutes=minutes)
    assert alert.callback.path == "include.gleaner.lateness.tell"


def test_zero_is_never() -> None:
    assert lateness.deadline({lateness.VARIABLE: "0"}) is None


def test_the_line_names_run_and_tenant_and_no_other_param(caplog: pytest.LogCaptureFixture) -> None:
    run = {
        "dag_id": "ingest_website", "dag_run_id": "manual__1", "state": "running", "queued_at": "2026-01-01T00:00:00Z",
        "conf": {"tenant": "acme", "url": "https://user:secret@example.com/"},
    }  # fmt: skip
    with caplog.at_level(logging.WARNING):
        told = asyncio.run(lateness.tell(context={"dag_run": run}))
    assert told in caplog.text
    assert told.startswith(
        "ingest_website: run manual__1 of tenant 'acme' is late; it is running, queued at 2026-01-01"
    )
    assert "secret" not in caplog.text


@pytest.mark.parametrize("context", [None, {}, {"dag_run": None}, {"dag_run": {"conf": None}}])
def test_a_context_that_says_little_is_no_error(context: dict[str, object] | None) -> None:
    assert "is late" in asyncio.run(lateness.tell(context=context))
