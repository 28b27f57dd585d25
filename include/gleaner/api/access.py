"""Who may do what: Airflow's own permissions, by its own auth manager; the session cookie or a bearer token.

To read anything takes the permission to read the DAG `ingest_website`. To change something takes the permission that
Airflow asks for such a change of the DAG concerned: to start runs of it, or to edit it where something is removed.
Airflow knows no tenants: whoever may read sees all of them.
"""

from __future__ import annotations

from typing import Any, Final

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from fastapi import APIRouter, Depends

INGEST: Final = "ingest_website"
REFRESH: Final = "refresh_websites"
REBUILD: Final = "rebuild_knowledge"
MAINTAIN: Final = "maintain_knowledge"

# Anybody who is logged in; else 401. Of every route of the app, static files included.
logged_in: Final = Depends(get_user)
may_read: Final = Depends(requires_access_dag("GET", param_dag_id=INGEST))
# What refresh_websites does is changed by whoever may start it; so with maintain_knowledge.
may_refresh: Final = Depends(requires_access_dag("POST", DagAccessEntity.RUN, param_dag_id=REFRESH))
may_maintain: Final = Depends(requires_access_dag("POST", DagAccessEntity.RUN, param_dag_id=MAINTAIN))
# To forget, erase and export.
may_edit: Final = Depends(requires_access_dag("PUT", param_dag_id=INGEST))

router: Final = APIRouter(prefix="/api", dependencies=[may_read], tags=["access"])


@router.get("/me")
def me(user: GetUserDep) -> dict[str, Any]:
    """Who asks, and which buttons are for them. The buttons' requests are checked again, here and by Airflow."""

    def may(method: Any, dag_id: str, entity: DagAccessEntity | None = None) -> bool:
        return get_auth_manager().is_authorized_dag(
            method=method, access_entity=entity, details=DagDetails(id=dag_id), user=user
        )

    return {
        "name": user.get_name(),
        "may": {
            "ingest": may("POST", INGEST, DagAccessEntity.RUN),
            "refresh": may("POST", REFRESH, DagAccessEntity.RUN),
            "maintain": may("POST", MAINTAIN, DagAccessEntity.RUN),
            "edit": may("PUT", INGEST),
        },
    }
