"""A website's pages, what is stored of one of them, and what failed."""

from __future__ import annotations

import uuid
import zlib
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel

from include.gleaner.api import airflow_side
from include.gleaner.api.access import may_maintain, may_read
from include.gleaner.api.database import knowledge, rows
from include.gleaner.api.sources import SCREENFUL, Named, Tenant, Text
from include.gleaner.errors import UnreadablePageError
from include.gleaner.process.decode import decode
from include.gleaner.process.records import document_from_json, text_of
from include.gleaner.sql import queries

router: Final = APIRouter(prefix="/api", dependencies=[may_read], tags=["content"])

MOST_CHUNKS: Final = 100
MOST_CHARACTERS: Final = 200_000  # of a text that is shown
NOWHERE: Final = uuid.UUID(int=0)
State = Literal["", "discovered", "fetched", "completed", "chunked", "failed", "gone", "skipped"]
Index = Annotated[int, Query(ge=-1, lt=2**31)]
Stage = Literal["crawl", "process", "load", "embed"]

PAGE_ROW: Final = (
    "page", "url", "state", "reason", "http_status", "alias_of", "fetched_at", "checked_at", "title", "language",
    "chunks",
)  # fmt: skip
PAGE: Final = (
    "page", "source", "website", "url", "state", "reason", "http_status", "alias_of", "depth", "first_seen_at",
    "checked_at", "fetched_at", "title", "language", "words", "processed_at", "document", "is_start", "model",
)  # fmt: skip
CHUNK: Final = (
    "type", "index", "section", "text", "tldr", "language", "tokens", "words", "has_vector", "updated_at",
)  # fmt: skip
PAGE_FAILURE: Final = ("stage", "item", "reason", "detail", "attempts", "first_at", "last_at")
FAILURE: Final = (
    "stage", "page", "item", "reason", "detail", "attempts", "first_at", "last_at", "url", "source",
)  # fmt: skip


@router.get("/pages")
def pages(
    tenant: Tenant,
    source: uuid.UUID,
    state: State = "",
    containing: Text = "",
    after: Text = "",
) -> dict[str, Any]:
    """Pages of a website: all by their addresses, those in one state by their ids. `after` is the `next` before."""
    key = {"tenant_id": tenant, "source_id": source, "containing": containing or None, "limit": SCREENFUL}
    with knowledge() as conn:
        if state:
            key = {**key, "state": state, "after_id": _uuid(after)}
            found = rows(conn, "pages_in_state", key, PAGE_ROW)
        else:
            found = rows(conn, "pages", {**key, "after": after}, PAGE_ROW)
    last = found[-1]["page" if state else "url"] if len(found) == SCREENFUL else None
    return {"pages": found, "next": last}


@router.get("/page")
def page(tenant: Tenant, page: uuid.UUID) -> dict[str, Any]:
    """One page: what is known of it, the text that was read from its newest content, its failures, its first chunks."""
    key = {"tenant_id": tenant, "page_id": page}
    with knowledge() as conn:
        found = rows(conn, "page", key, PAGE)
        if not found:
            raise HTTPException(404, "the tenant has no such page")
        failed = rows(conn, "page_failures", key, PAGE_FAILURE)
        pieces = rows(conn, "chunks", {**key, "after_type": "", "after_index": -1, "limit": MOST_CHUNKS}, CHUNK)
    document = found[0].pop("document")
    text = "" if document is None else text_of(document_from_json(document))
    return {
        **found[0],
        "text": text[:MOST_CHARACTERS],
        "is_cut": len(text) > MOST_CHARACTERS,
        "failures": failed,
        **_chunks(pieces),
    }


@router.get("/chunks")
def chunks(tenant: Tenant, page: uuid.UUID, after_type: Text, after_index: Index) -> dict[str, Any]:
    """Further chunks of a page."""
    key = {"tenant_id": tenant, "page_id": page, "after_type": after_type, "after_index": after_index}
    with knowledge() as conn:
        return _chunks(rows(conn, "chunks", {**key, "limit": MOST_CHUNKS}, CHUNK))


def _chunks(found: list[dict[str, Any]]) -> dict[str, Any]:
    more = {"after_type": found[-1]["type"], "after_index": found[-1]["index"]} if len(found) == MOST_CHUNKS else None
    return {"chunks": found, "next": more}


@router.get("/snapshot")
def snapshot(tenant: Tenant, page: uuid.UUID) -> dict[str, Any]:
    """The newest bytes of a page as text: what its website sent."""
    with knowledge() as conn:
        row = conn.execute(queries("views")["snapshot"], {"tenant_id": tenant, "page_id": page}, binary=True).fetchone()
    if row is None:
        raise HTTPException(404, "nothing is stored of this page")
    body, content_type, size, fetched_at = row
    try:
        found = decode(zlib.decompress(body), content_type)
    except UnreadablePageError as error:
        raise HTTPException(404, str(error)) from None
    text = found if isinstance(found, str) else ""
    return {
        "text": text[:MOST_CHARACTERS],
        "is_cut": len(text) > MOST_CHARACTERS,
        "content_type": content_type,
        "bytes": size,
        "fetched_at": fetched_at,
    }


@router.get("/failures")
def failures(
    tenant: Tenant,
    after_at: datetime | None = None,
    after_stage: str = "",
    after_id: uuid.UUID = NOWHERE,
    after_item: Text = "",
) -> dict[str, Any]:
    """What failed and is not mended, the newest first."""
    key = {
        "tenant_id": tenant, "after_at": after_at or "infinity", "after_stage": after_stage, "after_id": after_id,
        "after_item": after_item, "limit": SCREENFUL,
    }  # fmt: skip
    with knowledge() as conn:
        found = rows(conn, "failures", key, FAILURE)
    more = None
    if len(found) == SCREENFUL:
        last = found[-1]
        more = {
            "after_at": last["last_at"], "after_stage": last["stage"], "after_id": last["page"],
            "after_item": last["item"],
        }  # fmt: skip
    return {"failures": found, "next": more}


class Replay(BaseModel):
    tenant: Named
    page: uuid.UUID | None = None  # all of the tenant's, without it
    stage: Literal["process", "load", "embed"] | None = None


@router.post("/replay", dependencies=[may_maintain])
def replay(change: Replay, user: GetUserDep) -> dict[str, Any]:
    """Let the next run of maintain_knowledge try failures again, those too that it had given up."""
    key = {"tenant_id": change.tenant, "page_id": change.page, "stage": change.stage}
    with knowledge() as conn:
        count = conn.execute(queries("views")["replay"], key).rowcount
    airflow_side.record(user, "replay", tenant=change.tenant, page=change.page, stage=change.stage, failures=count)
    return {"failures": count}


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text) if text else NOWHERE
    except ValueError:
        raise HTTPException(400, "after needs to be the `next` of the answer before") from None
