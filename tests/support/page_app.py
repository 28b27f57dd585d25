"""Airflow's auth manager, and nothing else of it, replaced: an admin and a viewer whose tokens are their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from jwt import InvalidTokenError

ADMIN = "admin"
VIEWER = "viewer"


class Users:
    """What the app asks of an auth manager. `asked` is every permission that was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any, str | None]] = []
        self.may_read = True

    async def get_user_from_token(self, token: str) -> str:
        if token not in (ADMIN, VIEWER):
            raise InvalidTokenError
        return token

    def is_authorized_dag(self, *, method: str, user: str, access_entity: Any = None, details: Any = None) -> bool:
        self.asked.append((user, method, access_entity, None if details is None else details.id))
        return user == ADMIN or (method == "GET" and self.may_read)


@contextmanager
def airflow_users() -> Iterator[Users]:
    """While it is open, the app's users are those of `Users`. Airflow's own database is not asked."""
    from airflow.api_fastapi import app
    from airflow.models.dag import DagModel

    users = Users()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app._AuthManagerState, "instance", users)
        patch.setattr(DagModel, "get_team_name", lambda dag_id: None)
        yield users
