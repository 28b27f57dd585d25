"""An Airflow as users have it: its own LocalExecutor, and no more than one batch of a run at work in each stage."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from include.gleaner.local.stack import running
from tests.acceptance.conftest import DAG, Gleaner
from tests.support.embedding_server import API_KEY, EmbeddingServer

PLAIN = {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor", "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1"}


def test_a_run_has_one_batch_at_work_where_no_more_are_wanted(
    tmp_path: Path, endpoint: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"conn_type": "generic", "host": endpoint.url, "password": API_KEY,
              "extra": {"model": "text-embedding-3-small", "dimensions": 1_536}}  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(fields))
    monkeypatch.setenv("GLEANER_BATCHES_PER_RUN", "1")
    with running(tmp_path / "stack", sample=True, settings=PLAIN) as stack:
        user = Gleaner(stack)
        stack.airflow.wait(lambda: user.api.has_dag(DAG), "the DAG")
        user.api.unpause(DAG)
        run = user.ingest(
            {"tenant": "one", "url": stack.website_url, "delay_seconds": 0, "max_pages": 9, "batch_size": 3}
        )
        loaded = user.rows("SELECT count(DISTINCT source_id) FROM gleaner.tenant_knowledge")[0][0]
        log = (tmp_path / "stack" / "airflow" / "scheduler.log").read_text("utf-8")
    assert run.state == "success"
    assert loaded >= 6
    assert "Loaded executor: :LocalExecutor:" in log
    for stage in ("process", "load"):
        batches = sorted((task for task in run.tasks if task["task_id"] == stage), key=lambda task: task["start_date"])
        moments = [
            datetime.fromisoformat(moment) for task in batches for moment in (task["start_date"], task["end_date"])
        ]
        assert len(batches) > 1, stage
        assert moments == sorted(moments), stage  # each began when the one before it had ended
