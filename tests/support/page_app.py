"""Airflow's auth manager replaced by an admin and a viewer, whose tokens are their names; its database is not asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from jwt import InvalidTokenError

ADMIN = "admin"
VIEWER = "viewer"


@dataclass(frozen=True)
class User:
    name: str

    def get_name(self) -> str:
        return self.name


class Users:
    """What the app asks of an auth manager and of Airflow's database."""

    def __init__(self) -> None:
        self.may_read = True  # the viewer
        self.running: list[str] = []  # runs that are under way
        self.runs: list[tuple[str, str]] = []  # that Airflow has a record of
        self.recorded: list[tuple[str, dict[str, Any]]] = []  # in the audit log

    async def get_user_from_token(self, token: str) -> User:
        if token not in (ADMIN, VIEWER):
            raise InvalidTokenError
        return User(token)

    def is_authorized_dag(self, *, method: str, user: User, access_entity: Any = None, details: Any = None) -> bool:
        return user.name == ADMIN or (method == "GET" and self.may_read)


@contextmanager
def airflow_users() -> Iterator[Users]:
    """While it is open, the app's users are those of `Users`."""
    from airflow.api_fastapi import app
    from airflow.models.dag import DagModel

    from include.gleaner.api import airflow_side

    users = Users()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app._AuthManagerState, "instance", users)
        patch.setattr(DagModel, "get_team_name", lambda dag_id: None)
        patch.setattr(airflow_side, "active_runs", lambda tenant_id, source_id=None: users.running)
        patch.setattr(airflow_side, "runs_of", lambda tenant_id: users.runs)
        patch.setattr(airflow_side, "record", lambda user, event, **what: users.recorded.append((event, what)))
        yield users
