"""The shared limits with their state in Postgres."""

from __future__ import annotations

import psycopg
import pytest

from include.gleaner.shared.state import PostgresState
from tests.support.limits import ENDPOINT, LimitsContract, gate


class TestInPostgres(LimitsContract):
    @pytest.fixture
    def address(self, knowledge_dsn: str) -> str:
        return knowledge_dsn

    def test_a_state_that_cannot_be_read_is_begun_anew(self, conn: psycopg.Connection) -> None:
        mine = gate(PostgresState(conn))
        mine.admit(1)
        conn.execute("UPDATE gleaner.endpoint_state SET state = '{\"bucket\": 7}'")
        assert mine.admit(1).wait == 0
        found = conn.execute("SELECT endpoint FROM gleaner.endpoint_state").fetchall()
        assert found == [(ENDPOINT,)]
