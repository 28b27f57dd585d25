"""A stack of docker-compose.yaml that is up, and how the tests use it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Final

import requests

from include.gleaner.errors import RequestError
from include.gleaner.local.rest import AirflowApi
from tests.support.compose import Compose

DAG: Final = "ingest_website"
SITE: Final = "http://sample-site:8000/"
RUN_SECONDS: Final = 600
AIRFLOW: Final = ("airflow-apiserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")


class Installation:
    """What is up, and how to use it."""

    def __init__(self, compose: Compose, secrets: dict[str, str]) -> None:
        self.compose = compose
        self.secrets = secrets
        self.url = f"http://127.0.0.1:{compose.settings['GLEANER_PORT']}"
        self.api = self.api_as("admin", secrets["admin_password"])
        self.calm: list[tuple[Any, ...]] = []
        self.typed: list[str] = []

    def api_as(self, user: str, password: str) -> AirflowApi:
        return AirflowApi(self.url, user, password)

    def type(self, line: str) -> str:
        """A line of the runbook, as a person types it; what it printed."""
        done = self.compose.type(line)
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        self.typed.append(line)
        return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)  # it is in colours, whoever reads it

    def wait_healthy(self, *more: str, workers: int) -> None:
        """Until Airflow and so many workers are healthy, and what is named."""
        for service in (*AIRFLOW, "tidy", *more):
            self.compose.wait_healthy(service)
        self.compose.wait_healthy("worker", count=workers)

    def with_sample_site(self, *, workers: int) -> None:
        """The website of the profile `demo` beside what is up, with so many workers."""
        self.compose.run(
            "--profile", "demo", "up", "--detach", "--no-deps", "--scale", f"worker={workers}", "worker", "sample-site"
        )
        self.wait_healthy("sample-site", workers=workers)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.compose.knowledge(self.secrets["knowledge_db_password"]) as conn:
            return conn.execute(query.encode(), values).fetchall()

    def trigger(self, tenant: str, batch_size: int = 0) -> str:
        conf = {"tenant": tenant, "url": SITE, "delay_seconds": 0, "batch_size": batch_size}
        return self.api.trigger(DAG, conf)

    def wait(self, run_id: str) -> None:
        deadline = time.monotonic() + RUN_SECONDS
        while (state := self.patiently(lambda: self.api.dag_run(DAG, run_id)["state"])) not in ("success", "failed"):
            assert time.monotonic() < deadline, self.told(run_id)
            time.sleep(0.5)
        assert state == "success", self.told(run_id)

    def told(self, run_id: str) -> list[str]:
        """Of each task instance its state and try; of those that failed the end of the log, too."""
        found = []
        for task in self.tasks(run_id):
            found.append(f"{task['task_id']} {task['state']} {task['try_number']}")
            if task["state"] == "failed":
                log = self.api.log(
                    DAG, run_id, task["task_id"], map_index=task["map_index"], try_number=task["try_number"]
                )
                found.append(str(log[-8:])[-3000:])
        return found

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        return list(self.patiently(lambda: self.api.task_instances(DAG, run_id)))

    def working(self, run_id: str, task_id: str) -> dict[str, Any]:
        """A task instance that has just begun, some of its like being done."""
        deadline = time.monotonic() + RUN_SECONDS
        while True:
            tasks = [task for task in self.tasks(run_id) if task["task_id"] == task_id]
            running = [task for task in tasks if task["state"] == "running" and task["hostname"]]
            if running and any(task["state"] == "success" for task in tasks):
                return max(running, key=lambda task: str(task["start_date"]))
            assert time.monotonic() < deadline, self.told(run_id)
            time.sleep(0.2)

    def patiently(self, ask: Callable[[], Any]) -> Any:
        """A server that is down for a while is part of the tests."""
        deadline = time.monotonic() + 120
        while True:
            try:
                return ask()
            except (requests.RequestException, RequestError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
