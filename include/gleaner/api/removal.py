"""Forget a page or a website, let it in again; give out or erase everything of a tenant."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, Final

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from include.gleaner.api import airflow_side
from include.gleaner.api.access import may_edit, may_read
from include.gleaner.api.database import EXPORTS, knowledge
from include.gleaner.api.leftovers import left_over
from include.gleaner.api.sources import Named, Tenant
from include.gleaner.api.streaming import HeldStream
from include.gleaner.ops import erase, forget
from include.gleaner.sql import queries

router: Final = APIRouter(prefix="/api", dependencies=[may_read], tags=["removal"])

SECONDS_A_CALL: Final = 10.0  # then the page asks again, and shows how far it is
EXPORT_TIMEOUT: Final = "10min"


class Page(BaseModel):
    tenant: Named
    page: uuid.UUID


class Source(BaseModel):
    tenant: Named
    source: uuid.UUID
    confirm: str  # the website's address


class Target(BaseModel):
    tenant: Named
    target: uuid.UUID


class Erase(BaseModel):
    tenant: Named
    confirm: str  # the tenant's name


@router.get("/forgotten")
def forgotten(tenant: Tenant) -> dict[str, Any]:
    """What no crawl of the tenant takes in."""
    with knowledge() as conn:
        return {"forgotten": [asdict(item) for item in forget.list_forgotten(conn, tenant)]}


@router.post("/forget/page", dependencies=[may_edit])
def forget_page(change: Page, user: GetUserDep) -> dict[str, Any]:
    """Remove a page with everything that is stored of it, in one transaction."""
    with knowledge() as conn:
        removed = forget.forget_page(conn, change.tenant, change.page)
    airflow_side.record(user, "forget_page", **change.model_dump())
    return asdict(removed)


@router.post("/forget/source", dependencies=[may_edit])
def forget_source(change: Source, user: GetUserDep) -> dict[str, Any]:
    """Remove a website with everything that is stored of it, for some seconds: call it until it is `done`."""
    key = {"tenant_id": change.tenant, "source_id": change.source}
    with knowledge() as conn:
        row = conn.execute(queries("forget")["source"], key).fetchone()
        if row is not None and change.confirm != row[0]:
            raise HTTPException(400, "confirm needs to be the website's address")
        _no_runs(change.tenant, change.source)
        removed = forget.forget_source(conn, change.tenant, change.source, seconds=SECONDS_A_CALL)
    if removed.done:
        airflow_side.record(user, "forget_website", **change.model_dump())
    return asdict(removed)


@router.post("/allow", dependencies=[may_edit])
def allow(change: Target, user: GetUserDep) -> dict[str, Any]:
    """Let crawls take in again what was forgotten."""
    with knowledge() as conn:
        count = forget.allow(conn, change.tenant, change.target)
    airflow_side.record(user, "allow", **change.model_dump())
    return {"allowed": count}


@router.post("/erase", dependencies=[may_edit])
def erase_tenant(change: Erase, user: GetUserDep) -> dict[str, Any]:
    """Remove everything of a tenant, for some seconds: call it until it is `done`.

    Then the answer says what is left of the tenant that is not Gleaner's: `left` with how to remove it, `runs` by id.
    """
    if change.confirm != change.tenant:
        raise HTTPException(400, "confirm needs to be the tenant's name")
    with knowledge() as conn:
        _no_runs(change.tenant)
        erased = erase.erase_tenant(conn, change.tenant, seconds=SECONDS_A_CALL)
    if erased.done:
        airflow_side.record(user, "erase_tenant", tenant=change.tenant)
        return {**asdict(erased), **left_over(airflow_side.runs_of(change.tenant))}
    return asdict(erased)


@router.get("/export", dependencies=[may_edit])
def export(tenant: Tenant, user: GetUserDep) -> HeldStream:
    """Everything of a tenant as gzip-compressed lines of JSON."""
    with ExitStack() as taken:
        conn = taken.enter_context(knowledge(statement_timeout=EXPORT_TIMEOUT, slots=EXPORTS))
        if conn.execute(queries("views")["is_tenant"], {"tenant_id": tenant}).fetchone() is None:
            raise HTTPException(404, "there is no such tenant")
        blocks = erase.export_tenant(conn, tenant)
        taken.callback(blocks.close)
        airflow_side.record(user, "export", tenant=tenant)
        held = taken.pop_all()
    name = f"gleaner-{tenant}.ndjson.gz"
    return HeldStream(
        blocks, held, media_type="application/gzip", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


def _no_runs(tenant_id: str, source_id: uuid.UUID | None = None) -> None:
    """409 while runs wait or go on that would write what is being removed."""
    if running := airflow_side.active_runs(tenant_id, source_id):
        raise HTTPException(
            409, f"stop these runs of ingest_website first, or let them end: {', '.join(running[:5])}"
            + (f" and {len(running) - 5} more" if len(running) > 5 else "")
        )  # fmt: skip
