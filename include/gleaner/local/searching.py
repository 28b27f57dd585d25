"""`make search`: asks the knowledge of the local runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from include.gleaner.config import OPENAI_CONN_ID, EmbedPolicy, local_policy
from include.gleaner.errors import SetupError
from include.gleaner.local.console import excerpt, say
from include.gleaner.local.stack import knowledge
from include.gleaner.sql import queries

if TYPE_CHECKING:
    from include.gleaner.search import Hit


def show_search(folder: Path, tenant: str, query: str, limit: int) -> int:
    """Print the best chunks, with what speaks for each; 0 when something was found.

    Raises SetupError when there is nothing to ask or nobody to be asked.
    """
    if not query.strip():
        raise SetupError('what is asked for is missing: make search Q="how long does the battery last" TENANT=sample')
    if not 1 <= limit <= 1_000:
        raise SetupError("K needs to be from 1 to 1000")
    with knowledge(folder) as dsn, _connected(dsn) as conn:
        hits = ask(conn, tenant, query, limit)
    for number, hit in enumerate(hits, 1):
        told = [f"score {hit.score:.3f}"]
        told += [] if hit.similarity is None else [f"meaning {hit.similarity:.3f}"]
        told += [] if hit.lexical is None else [f"words {hit.lexical:.3f}"]
        say(f"{number}. {hit.section_title}  ({', '.join(told)})\n   {excerpt(hit.full_text)}\n   {hit.page_url}")
    if not hits:
        say("nothing found")
    return 0 if hits else 1


def ask(conn: psycopg.Connection, tenant: str, query: str, limit: int) -> list[Hit]:
    """The best chunks for `query`, with a vector of the model that the environment names.

    Raises SetupError when the tenant has no knowledge, or its readers see another model's vectors.
    """
    from include.gleaner.embed import open_embedder
    from include.gleaner.search import MAX_QUERY_CHARACTERS, search

    embedder = open_embedder(*embedding_here())
    row = conn.execute(queries("search")["search_model"], {"tenant_id": tenant}).fetchone()
    if row is None or row[0] is None:
        raise SetupError(f"tenant {tenant} has no knowledge yet; ingest a website with: make run TENANT={tenant}")
    if row[0] != embedder.model:
        raise SetupError(
            f"the readers of {tenant} see vectors of {row[0]}, and this query would get one of {embedder.model}; "
            f"set or unset AIRFLOW_CONN_{OPENAI_CONN_ID.upper()}"
        )
    vector = embedder.embed_query(query[:MAX_QUERY_CHARACTERS])
    return list(search(conn, tenant_id=tenant, query=query, vector=vector, model=embedder.model, limit=limit))


def _connected(dsn: str) -> psycopg.Connection:
    try:
        return psycopg.connect(dsn, autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError:
        raise SetupError("the database of the other run does not answer yet; ask again in a moment") from None


def embedding_here() -> tuple[EmbedPolicy, str | None]:
    """The model of the tasks: the local one, unless the environment names an endpoint."""
    if f"AIRFLOW_CONN_{OPENAI_CONN_ID.upper()}" not in os.environ:
        return local_policy(os.environ), None
    from include.gleaner.pipeline.connections import embedding

    return embedding()
