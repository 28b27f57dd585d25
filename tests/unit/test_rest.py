"""The client of Airflow's API before a server that fails now and then."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from include.gleaner.errors import RequestError, SetupError
from include.gleaner.local import rest
from include.gleaner.local.rest import AirflowApi


class _Airflow(BaseHTTPRequestHandler):
    """Fails as often as it is told, then answers as it should."""

    asked: ClassVar[list[tuple[str, Any]]]
    failing: ClassVar[int]
    status: ClassVar[int]
    login: ClassVar[Any] = {"access_token": "t"}
    told: ClassVar[Any] = {"dag_run_id": "r"}

    def do_POST(self) -> None:
        if self.path == "/auth/token":
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(201, self.login)
        else:
            self.do_PATCH()

    def do_PATCH(self) -> None:
        self.asked.append((self.command, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        if len(self.asked) <= self.failing:
            self._answer(self.status, {"detail": "Database error"})
        else:
            self._answer(200, self.told)

    def _answer(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how many seconds it would have been waited, each time."""
    found: list[float] = []
    monkeypatch.setattr(rest.time, "sleep", found.append)
    return found


@pytest.fixture
def airflow(waited: list[float]) -> Iterator[tuple[AirflowApi, type[_Airflow]]]:
    handler = type("Handler", (_Airflow,), {"asked": [], "failing": 0, "status": 500})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield AirflowApi(f"http://127.0.0.1:{server.server_port}", "admin", "x"), handler
        server.shutdown()


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_what_should_be_so_is_asked_for_again(
    airflow: tuple[AirflowApi, type[_Airflow]], waited: list[float], failing: int
) -> None:
    api, server = airflow
    server.failing = failing
    api.fail_run("ingest_website", "r")
    assert server.asked == [("PATCH", {"state": "failed"})] * (failing + 1)
    assert waited == [0.5, 1.0, 2.0][:failing]


def test_a_server_that_goes_on_failing_is_told(airflow: tuple[AirflowApi, type[_Airflow]]) -> None:
    api, server = airflow
    server.failing = 99
    with pytest.raises(RequestError, match="500: Database error"):
        api.fail_run("ingest_website", "r")
    assert len(server.asked) == 4


@pytest.mark.parametrize("status", [403, 404, 409, 422, 503])
def test_any_other_refusal_is_told_at_once(airflow: tuple[AirflowApi, type[_Airflow]], status: int) -> None:
    api, server = airflow
    server.failing, server.status = 99, status
    with pytest.raises(RequestError, match=f"{status}: Database error"):
        api.fail_run("ingest_website", "r")
    assert len(server.asked) == 1


def test_a_run_is_never_asked_for_twice(airflow: tuple[AirflowApi, type[_Airflow]]) -> None:
    api, server = airflow
    server.failing = 1
    with pytest.raises(RequestError, match="500"):
        api.trigger("ingest_website", {})
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "login", [[1], {}, None, "hello", *({"access_token": token} for token in (1, "", "é", "ت", "a\nb"))]
)
def test_what_is_no_airflow_is_told(airflow: tuple[AirflowApi, type[_Airflow]], login: object) -> None:
    api, server = airflow
    server.login = login
    with pytest.raises(SetupError, match="no Airflow"):
        api.trigger("ingest_website", {})
    assert server.asked == []


@pytest.mark.parametrize("told", [[1], {}, None, "hello"])
def test_answers_that_are_no_airflow_s_are_told(airflow: tuple[AirflowApi, type[_Airflow]], told: object) -> None:
    api, server = airflow
    server.told = told
    with pytest.raises(SetupError, match="no Airflow"):
        api.trigger("ingest_website", {})
