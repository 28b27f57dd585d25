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
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse, GetConnection

    answer: Any
    try:
        answer = supervisor.send(GetConnection(conn_id=conn_id))
    except AirflowRuntimeError as error:
        answer = error.error
    except Exception as error:  # noqa: BLE001 - however it fails, it is no answer
        answer = error
    if isinstance(answer, ErrorResponse) and answer.error == ErrorType.CONNECTION_NOT_FOUND:
        return
    raise AirflowUnavailableError(f"Airflow's API server could not be asked for the connection {conn_id!r}")
