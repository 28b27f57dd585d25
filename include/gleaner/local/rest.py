"""The few calls of Airflow's REST API that a local run and the `gleaner` command make."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import requests

from include.gleaner.errors import RequestError, SetupError

TIMEOUT_SECONDS: Final = 20.0
# At a run that just begins, the API server and the scheduler may lock each other out: one of them gives up with a 500.
# What a PATCH wants to be so is asked for again then.
PAUSES: Final = (0.5, 1.0, 2.0)


class AirflowApi:
    """Client of one API server, logged in with a JWT that is renewed when it expires.

    Methods raise requests.ConnectionError while the server is not up, and RequestError, with the server's own words,
    when it refuses what it was asked.
    """

    def __init__(self, base_url: str, username: str, password: str) -> None:
        self._base = base_url.rstrip("/")
        self._login = {"username": username, "password": password}
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment has no business with loopback

    def health(self) -> dict[str, str | None]:
        """Status of each component: "healthy", "unhealthy" or None when there is none."""
        response = self._session.get(f"{self._base}/api/v2/monitor/health", timeout=TIMEOUT_SECONDS)
        response.raise_for_status()
        return {name: part.get("status") for name, part in response.json().items()}

    def serves_tasks(self) -> bool:
        """Whether the part of the server that tasks talk to answers.

        It is made at its first request, which takes seconds: a task that came first would wait, and ask twice.
        """
        response = self._session.get(f"{self._base}/execution/health", timeout=TIMEOUT_SECONDS)
        response.raise_for_status()
        return bool(response.json() == {"status": "healthy"})

    def has_dag(self, dag_id: str) -> bool:
        """Whether the DAG processor has made the DAG known."""
        return self._call("GET", f"/dags/{dag_id}", missing_ok=True) is not None

    def import_errors(self) -> list[str]:
        """The errors of DAG files that cannot be imported."""
        found = self._json("GET", "/importErrors")["import_errors"]
        return [f"{item['filename']}: {item['stack_trace']}" for item in found]

    def add_pool(self, name: str, slots: int, description: str) -> None:
        """Create the pool unless it is there; one that somebody resized stays as it is."""
        body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        if self._call("GET", f"/pools/{name}", missing_ok=True) is None:
            self._call("POST", "/pools", body)

    def add_connection(self, conn_id: str, **fields: Any) -> None:
        """Create the Airflow connection; `extra` is a mapping."""
        body = {"connection_id": conn_id, **fields}
        if "extra" in body:
            body["extra"] = json.dumps(body["extra"])
        self._call("POST", "/connections", body)

    def unpause(self, dag_id: str) -> None:
        """Let the DAG run."""
        self._call("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any], logical_date: str | None = None) -> str:
        """Start a run with this conf; its id. Airflow's own form gives the present as the logical date."""
        answer = self._json("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": logical_date, "conf": dict(conf)})
        return str(answer["dag_run_id"])

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """The run: `state`, `start_date`, `end_date`, ..."""
        return self._json("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id)}")

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of the run, mapped ones each for itself."""
        found: list[dict[str, Any]] = []
        while True:
            page = self._json(
                "GET", f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances?limit=100&offset={len(found)}"
            )
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What the task returned; None when it returned nothing, or has not yet."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/xcomEntries/return_value"
        found = self._call("GET", f"{path}?stringify=false", missing_ok=True)
        return None if found is None else found["value"]

    def asset_events(self, name: str) -> list[dict[str, Any]]:
        """What was announced of the asset among the newest hundred events, the newest last."""
        path = "/assets/events?limit=100&order_by=-timestamp"
        return [event for event in reversed(self._json("GET", path)["asset_events"]) if event["name"] == name]

    def backfill(self, body: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Begin a backfill, as the API describes it; dry: only which days it would be."""
        return self._json("POST", "/backfills/dry_run" if dry_run else "/backfills", body)

    def clear(self, dag_id: str, run_id: str, task_ids: Sequence[str], *, downstream: bool = False) -> list[str]:
        """Let tasks of the run be run again, mapped ones with all their instances; the ids of what was cleared."""
        body = {
            "dry_run": False, "dag_run_id": run_id, "task_ids": list(task_ids), "only_failed": False,
            "reset_dag_runs": True, "include_downstream": downstream,
        }  # fmt: skip
        found = self._json("POST", f"/dags/{dag_id}/clearTaskInstances", body)["task_instances"]
        return [str(task["task_id"]) for task in found]

    def delete_run(self, dag_id: str, run_id: str) -> None:
        """Remove the run from Airflow; what it stored stays."""
        self._call("DELETE", f"/dags/{dag_id}/dagRuns/{quote(run_id)}")

    def delete_pool(self, name: str) -> None:
        """Remove the pool."""
        self._call("DELETE", f"/pools/{name}")

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The newest hundred runs of the DAG."""
        return list(self._json("GET", f"/dags/{dag_id}/dagRuns?limit=100&order_by=-run_after")["dag_runs"])

    def log(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, try_number: int = 1) -> list[Any]:
        """The lines of a try's log: `event` and the fields beside it."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/logs/{try_number}"
        return list(self._json("GET", f"{path}?map_index={map_index}&full_content=true")["content"])

    def active_runs(self, dag_id: str) -> list[str]:
        """Ids of the runs that are queued or running."""
        found = self._json("GET", f"/dags/{dag_id}/dagRuns?state=queued&state=running&limit=100")["dag_runs"]
        return [str(run["dag_run_id"]) for run in found]

    def fail_run(self, dag_id: str, run_id: str) -> None:
        """End the run: its tasks are stopped, and it counts as failed."""
        self._call("PATCH", f"/dags/{dag_id}/dagRuns/{quote(run_id)}", {"state": "failed"})

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return _Answer(self._call(method, path, body) or {})

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, missing_ok: bool = False
    ) -> dict[str, Any] | None:
        response = self._ask(method, path, body)
        for pause in PAUSES if method == "PATCH" else ():
            if response.status_code != 500:
                break
            time.sleep(pause)
            response = self._ask(method, path, body)
        if response.status_code == 404 and missing_ok:
            return None
        if not response.ok:
            raise RequestError(f"Airflow refuses {method} {path} with {response.status_code}: {_detail(response)}")
        try:
            answer = response.json() if response.content else None
        except ValueError:
            answer = ...
        if answer is not None and not isinstance(answer, dict):
            raise SetupError(f"what answers is no Airflow: {method} {path} gives no JSON object")
        return answer

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> requests.Response:
        for fresh in (False, True):
            if fresh or "Authorization" not in self._session.headers:
                self._log_in()
            response = self._session.request(method, f"{self._base}/api/v2{path}", json=body, timeout=TIMEOUT_SECONDS)
            if response.status_code != 401:
                break
        return response

    def _log_in(self) -> None:
        response = self._session.post(f"{self._base}/auth/token", json=self._login, timeout=TIMEOUT_SECONDS)
        if response.status_code in (401, 403):
            raise SetupError("Airflow refuses the login; its password file does not match, `make clean` starts anew")
        response.raise_for_status()
        try:
            token = response.json()["access_token"]
        except (ValueError, KeyError, TypeError):
            token = None
        if not isinstance(token, str) or not re.fullmatch(r"[\w.~+/=-]+", token, re.ASCII):
            raise SetupError("what answers is no Airflow: it gives no token for a login")
        self._session.headers["Authorization"] = f"Bearer {token}"


class _Answer(dict[str, Any]):
    """What Airflow says; without what it always says it is none."""

    def __missing__(self, name: str) -> Any:
        raise SetupError(f"what answers is no Airflow: its answer has no {name}")


def _detail(response: requests.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return response.reason or "no reason given"
    return str(detail)[:2_000]
