"""What the app needs of Airflow's own database: which runs are under way, and the audit log."""

from __future__ import annotations

import json
import uuid
from typing import Any, Final

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.utils.session import create_session
from sqlalchemy import select

from include.gleaner.api.access import INGEST, MAINTAIN, REBUILD, REFRESH
from include.gleaner.crawl.urls import canonicalize
from include.gleaner.models import source_id_of

DAGS: Final = (INGEST, REFRESH, REBUILD, MAINTAIN)


def active_runs(tenant_id: str, source_id: uuid.UUID | None = None) -> list[str]:
    """Ids of the runs of ingest_website that wait or go on, of the tenant or of one of its websites."""
    with create_session(scoped=False) as session:
        found = session.execute(
            select(DagRun.run_id, DagRun.conf).where(DagRun.dag_id == INGEST, DagRun.state.in_(("queued", "running")))
        ).all()
    return sorted(
        run_id
        for run_id, conf in found
        if isinstance(conf, dict)
        and conf.get("tenant") == tenant_id
        and source_id in (None, source_id_of(tenant_id, canonicalize(str(conf.get("url"))) or ""))
    )


def runs_of(tenant_id: str) -> list[tuple[str, str]]:
    """DAG and id of all runs that Airflow has a record of and that were for this tenant alone, the oldest first."""
    query = select(DagRun.dag_id, DagRun.run_id, DagRun.conf).where(DagRun.dag_id.in_(DAGS)).order_by(DagRun.id)
    with create_session(scoped=False) as session:
        return [
            (dag_id, run_id)
            for dag_id, run_id, conf in session.execute(query.execution_options(yield_per=1_000))
            if isinstance(conf, dict) and conf.get("tenant") == tenant_id
        ]


def record(user: BaseUser, event: str, **what: Any) -> None:
    """Write a change that was done to Airflow's audit log, where it is seen beside those of Airflow's own buttons."""
    with create_session(scoped=False) as session:
        session.add(
            Log(
                event=f"gleaner_{event}",
                dag_id=INGEST,
                owner=user.get_name(),
                owner_display_name=user.get_name(),
                extra=json.dumps(what, default=str),
            )
        )
