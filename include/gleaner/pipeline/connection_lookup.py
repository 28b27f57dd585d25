"""Looks an Airflow connection up, and tells one that is missing from one that nobody could be asked for.

Airflow tells a task that a connection isn't defined also when its API server was asked in vain, as while the server's
database is being restarted. Taken for a no, that would fail runs for good, or make vectors with another model.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from include.gleaner.errors import AirflowUnavailableError, ConnectionMissingError

if TYPE_CHECKING:
    from airflow.sdk import Connection


def found_connection(conn_id: str) -> Connection | None:
    """The connection; None when there is none. Raises AirflowUnavailableError when Airflow cannot be asked."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        check_missing(conn_id)
        return None


def check_missing(conn_id: str) -> None:
    """Raise AirflowUnavailableError unless it is Airflow's own word that there is no such connection.

    Raises ConnectionMissingError for one that the environment has and Airflow passes over, as it cannot read it.
    """
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if os.environ.get(variable):
        raise ConnectionMissingError(f"{variable} is set, but is no connection: it needs a URI, or an object of JSON")
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    supervisor = getattr(runner, "SUPERVISOR_COMMS", None)
    if supervisor is None:  # not in a task: Airflow's settings, or its own database, were looked at
        return
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time.comms import DRCount, ErrorResponse, GetConnection, GetDRCount

    # "Not found" is also what the API server says while its database does not answer: it passes over that. So something
    # is asked before and after that cannot be answered without the database; a restart takes longer than the three.
    probe = GetDRCount(dag_id="ingest_website")
    before, answer, after = (_answer(supervisor, asked) for asked in (probe, GetConnection(conn_id=conn_id), probe))
    is_up = isinstance(before, DRCount) and isinstance(after, DRCount)
    if is_up and isinstance(answer, ErrorResponse) and answer.error == ErrorType.CONNECTION_NOT_FOUND:
        return
    raise AirflowUnavailableError(f"Airflow's API server could not be asked for the connection {conn_id!r}")


def _answer(supervisor: Any, question: Any) -> Any:
    """What the supervisor answers, or the error that it answers with."""
    from airflow.sdk.exceptions import AirflowRuntimeError

    try:
        return supervisor.send(question)
    except AirflowRuntimeError as error:
        return error.error
    except Exception as error:  # noqa: BLE001 - however it fails, it is no answer
        return error
