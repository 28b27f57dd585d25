"""A pooler between Gleaner and Postgres: one that keeps sessions apart will do, one that shares them is refused."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from include.gleaner.errors import SetupError
from include.gleaner.ops.runner import only_runner
from include.gleaner.ops.session import open_session
from include.gleaner.pipeline.connections import knowledge_connection
from tests.support.pooler import Pooler
from tests.support.tenant import Tenant


@pytest.fixture
def pooler(knowledge_dsn: str, request: pytest.FixtureRequest) -> Pooler:
    parts = conninfo_to_dict(knowledge_dsn)
    return Pooler(str(parts["host"]), int(str(parts["port"])), shared=request.param)


@pytest.mark.parametrize("pooler", [True], indirect=True)
def test_sessions_that_are_shared_are_refused(
    pooler: Pooler, knowledge_dsn: str, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pooler:
        through = make_conninfo(knowledge_dsn, port=pooler.port, sslmode="disable", gssencmode="disable")
        with psycopg.connect(through, autocommit=True) as one, psycopg.connect(through, autocommit=True) as other:
            one.execute("SET work_mem = '77kB'")  # which is what it is about
            assert other.execute("SHOW work_mem").fetchone() == ("77kB",)
        for opened in (open_session, lambda dsn: only_runner(dsn, "migrate").__enter__()):
            with pytest.raises(SetupError, match="pool_mode=session"):
                opened(through)
        parts = conninfo_to_dict(knowledge_dsn)
        uri = f"postgresql://{parts['user']}:{parts['password']}@127.0.0.1:{pooler.port}/{parts['dbname']}"
        monkeypatch.setenv("AIRFLOW_CONN_GLEANER_POSTGRES", f"{uri}?sslmode=disable&gssencmode=disable")
        with pytest.raises(SetupError, match="pool_mode=session"), knowledge_connection():
            pass


@pytest.mark.parametrize("pooler", [False], indirect=True)
def test_sessions_of_their_own_will_do(pooler: Pooler, knowledge_dsn: str) -> None:
    with pooler:
        through = make_conninfo(knowledge_dsn, port=pooler.port, sslmode="disable", gssencmode="disable")
        with open_session(through) as conn:
            assert conn.info.backend_pid >= 1_000_000
            assert conn.execute("SHOW default_transaction_isolation").fetchone() == ("read committed",)
