"""A connection that is missing, and one that Airflow's API server could not be asked for, as a task meets both."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import DRCount, ErrorResponse, GetDRCount

from include.gleaner.config import OPENAI_CONN_ID, local_policy
from include.gleaner.errors import AirflowUnavailableError, ConnectionMissingError
from include.gleaner.pipeline.connections import embedding, knowledge_dsn
from include.gleaner.retry_policy import RETRY_POLICY

MISSING = ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)
DOWN = ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 500})


class Supervisor:
    """Answers for connections with one and the same error, returned or raised as Airflow does.

    What needs the database is answered too; with DOWN the first and the second time, if it is down then.
    """

    def __init__(self, error: ErrorResponse | Exception, *, up: tuple[bool, ...] = (True, True)) -> None:
        self._error = error
        self._up = up
        self._probed = 0

    def send(self, question: Any) -> Any:
        if isinstance(question, GetDRCount):
            self._probed += 1
            return DRCount(count=0) if self._up[(self._probed - 1) % 2] else DOWN
        if isinstance(self._error, Exception):
            raise self._error
        return self._error


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLEANER_POSTGRES", "GLEANER_OPENAI"):
        monkeypatch.delenv(f"AIRFLOW_CONN_{name}", raising=False)


@pytest.mark.parametrize("error", [MISSING, AirflowRuntimeError(MISSING)], ids=["returned", "raised"])
def test_one_that_is_missing_is_told_as_that(monkeypatch: pytest.MonkeyPatch, error: ErrorResponse | Exception) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(error), raising=False)
    with pytest.raises(ConnectionMissingError, match="airflow connections add"):
        knowledge_dsn()
    assert embedding()[0] == local_policy({})


@pytest.mark.parametrize(
    "error", [DOWN, AirflowRuntimeError(DOWN), OSError("broken pipe")], ids=["returned", "raised", "no supervisor"]
)
def test_one_that_could_not_be_asked_for_is_tried_again_and_not_taken_for_none(
    monkeypatch: pytest.MonkeyPatch, error: ErrorResponse | Exception
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(error), raising=False)
    with pytest.raises(AirflowUnavailableError) as caught:
        knowledge_dsn()
    with pytest.raises(AirflowUnavailableError, match=OPENAI_CONN_ID):
        embedding()  # and not the local model
    never_again = [
        exception for rule in RETRY_POLICY.rules if rule.action.name == "FAIL" for exception in rule.exception
    ]
    assert not isinstance(caught.value, tuple(never_again))


@pytest.mark.parametrize("up", [(False, True), (True, False), (False, False)])
def test_one_that_is_not_found_while_the_database_is_restarted_is_not_taken_for_none(
    monkeypatch: pytest.MonkeyPatch, up: tuple[bool, ...]
) -> None:
    """The API server passes over an error of its database, and says of any connection that there is none."""
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(MISSING, up=up), raising=False)
    for ask in (knowledge_dsn, embedding):
        with pytest.raises(AirflowUnavailableError):
            ask()


@pytest.mark.parametrize("value", ["{bad", '{"host": "x"'])
def test_one_of_the_environment_that_cannot_be_read_is_not_taken_for_none(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Airflow passes over it, and the local model would be taken for the endpoint's."""
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", value)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(MISSING), raising=False)
    with pytest.raises(ConnectionMissingError, match="AIRFLOW_CONN_GLEANER_OPENAI is set, but is no connection"):
        embedding()
