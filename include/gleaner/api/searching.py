"""The search box: what a reader of the tenant would find, with what speaks for each hit."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final

import psycopg
from fastapi import APIRouter, HTTPException, Query

from include.gleaner.api.access import may_read
from include.gleaner.api.database import knowledge
from include.gleaner.api.sources import Tenant
from include.gleaner.config import EmbedPolicy
from include.gleaner.embed import Embedder, open_embedder
from include.gleaner.errors import EmbeddingError, GleanerError
from include.gleaner.pipeline.connections import check_dimensions, embedding, endpoint_gate
from include.gleaner.search import search
from include.gleaner.sql import queries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

router: Final = APIRouter(prefix="/api", dependencies=[may_read], tags=["search"])
_one_at_a_time: Final = threading.Lock()  # the local model has one thread


@router.get("/search")
def find(
    tenant: Tenant,
    query: Annotated[str, Query(min_length=1, max_length=2_000)],
    limit: Annotated[int, Query(ge=1, le=50)] = 10,
    by: Annotated[str, Query(pattern="^(both|words)$")] = "both",
) -> dict[str, Any]:
    """The best chunks. By words alone where the model of the readers' vectors cannot be asked; `note` says why."""
    with knowledge() as conn:
        row = conn.execute(queries("search")["search_model"], {"tenant_id": tenant}).fetchone()
        if row is None:
            raise HTTPException(404, "there is no such tenant")
        model: str | None = row[0]
        if model is None:
            return {"model": None, "hits": [], "note": "nothing is loaded yet"}
        vector, note = (None, None) if by == "words" else _vector(conn, tenant, model, query)
        hits = search(conn, tenant_id=tenant, query=query, vector=vector, model=model, limit=limit)
    return {
        "model": model,
        "note": note,
        "hits": [
            {
                "score": hit.score,
                "dense": hit.similarity,
                "lexical": hit.lexical,
                "page": hit.source_id,
                "url": hit.page_url,
                "type": hit.chunk_type,
                "index": hit.chunk_index,
                "section": hit.section_title,
                "text": hit.full_text,
                "language": hit.language,
            }
            for hit in hits
        ],
    }


def _vector(
    conn: psycopg.Connection, tenant_id: str, model: str, query: str
) -> tuple[NDArray[np.float32] | None, str | None]:
    """The query's vector, or why there is none."""
    try:
        policy, api_key = embedding()
        if policy.model != model:
            return (
                None,
                f"by words alone: the readers see vectors of {model}, and queries would get one of {policy.model}",
            )
        check_dimensions(conn, policy, tenant_id)
        # Somebody looks on: rather no vector than a long wait.
        impatient = replace(policy, attempts=1, timeout_seconds=5.0, max_wait_seconds=1.0)
        if policy.is_local:
            with _one_at_a_time:
                return _local(impatient).embed_query(query), None
        gate = endpoint_gate(conn, impatient, tenant_id)
        return open_embedder(impatient, api_key, gate).embed_query(query), None
    except EmbeddingError as error:
        return None, f"by words alone: {type(error).__name__}, the endpoint could not be asked"
    except GleanerError as error:
        return None, f"by words alone: {error}"


@lru_cache(maxsize=1)
def _local(policy: EmbedPolicy) -> Embedder:
    """The local model, loaded once in a process: about a second and 200 MB."""
    return open_embedder(policy, None)
