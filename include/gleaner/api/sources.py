"""Tenants and their websites; pausing one."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, Field

from include.gleaner.api import airflow_side
from include.gleaner.api.access import may_read, may_refresh
from include.gleaner.api.database import knowledge, rows
from include.gleaner.sql import queries

router: Final = APIRouter(prefix="/api", dependencies=[may_read], tags=["sources"])

SCREENFUL: Final = 50
Tenant = Annotated[str, Query(max_length=63)]
Named = Annotated[str, Field(max_length=63)]  # a tenant, in the body of a change
Text = Annotated[str, Query(max_length=2_000)]

TENANT: Final = ("tenant", "model", "previous_model", "quota", "websites", "tokens_of_month")
SOURCE: Final = (
    "tenant", "source", "url", "paused", "seconds_between", "params", "job", "run_id", "state", "reason", "started_at",
    "finished_at", "due_at", "is_under_way", "states", "is_being_forgotten",
)  # fmt: skip


@router.get("/tenants")
def tenants(after: Tenant = "", containing: Tenant = "") -> dict[str, Any]:
    """Tenants by name."""
    key = {"tenant_id": None, "after": after, "containing": containing or None, "limit": SCREENFUL}
    with knowledge() as conn:
        found = rows(conn, "tenants", key, TENANT)
    return {"tenants": found, "next": found[-1]["tenant"] if len(found) == SCREENFUL else None}


@router.get("/sources")
def sources(
    tenant: Tenant = "", source: uuid.UUID | None = None, after_tenant: Tenant = "", after_url: Text = ""
) -> dict[str, Any]:
    """Websites, of one tenant or of all; each with its pages by state, its newest crawl and when it is due."""
    key = {
        "tenant_id": tenant or None, "source_id": source, "after_tenant": after_tenant, "after_url": after_url,
        "limit": SCREENFUL,
    }  # fmt: skip
    with knowledge() as conn:
        found = rows(conn, "sources", key, SOURCE)
    last = {"after_tenant": found[-1]["tenant"], "after_url": found[-1]["url"]} if len(found) == SCREENFUL else None
    return {"sources": found, "next": last}


class Pause(BaseModel):
    tenant: Named
    source: uuid.UUID
    paused: bool


@router.post("/pause", dependencies=[may_refresh])
def pause(change: Pause, user: GetUserDep) -> dict[str, Any]:
    """Whether refresh_websites leaves the website out."""
    key = {"tenant_id": change.tenant, "source_id": change.source, "paused": change.paused}
    with knowledge() as conn:
        row = conn.execute(queries("views")["set_paused"], key).fetchone()
    if row is None:
        raise HTTPException(404, "the tenant has no such website")
    airflow_side.record(user, "pause" if change.paused else "resume", tenant=change.tenant, url=row[0])
    return {"paused": change.paused}
