"""Two models side by side: readers keep to the old one until every page is in the new one, then all change at once.

Rows of the new model are written beside the old ones by ordinary runs. The switch is one statement; the old rows are
removed after it, in steps that may be killed.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import psycopg

from include.gleaner.sql import queries

log = logging.getLogger(__name__)

PAGES_PER_STEP: Final = 200


def switch_model(conn: psycopg.Connection, *, tenant_id: str, model: str) -> int:
    """Let readers see `model` if all that they see now is there with its vectors; then remove the old model's rows.

    Returns how many pages are behind: 0 when readers see `model`.
    """
    sql = queries("models")
    key = {"tenant_id": tenant_id, "model": model}
    _, unfinished = conn.execute(sql["state"], key).fetchone() or (None, None)
    if unfinished is not None:
        remove_model(conn, tenant_id=tenant_id, model=unfinished)
    switched = conn.execute(sql["switch"], key).fetchone()
    if switched is not None and switched[0] is not None:
        log.info("readers of %s see %s from now on, no longer %s", tenant_id, model, switched[0])
        remove_model(conn, tenant_id=tenant_id, model=switched[0])
    search_model, _ = conn.execute(sql["state"], key).fetchone() or (None, None)
    if search_model == model:
        return 0
    row = conn.execute(sql["pages_behind"], key).fetchone()
    behind = int(row[0]) if row else 0
    log.warning(
        "readers of %s still see %s: %d pages are not complete under %s; ingest the tenant's other websites",
        tenant_id, search_model, behind, model,
    )  # fmt: skip
    return behind


def remove_model(conn: psycopg.Connection, *, tenant_id: str, model: str) -> int:
    """Remove the rows of `model`, which readers no longer see; how many chunks went.

    Stops without a word when the model was switched back meanwhile.
    """
    sql = queries("models")
    key: dict[str, Any] = {"tenant_id": tenant_id, "model": model}
    removed = 0
    while True:
        with conn.transaction():
            held = conn.execute(sql["hold_state"], key).fetchone()
            if held is None or held[0] != model:
                return removed
            pages = [row[0] for row in conn.execute(sql["old_pages"], {**key, "pages": PAGES_PER_STEP})]
            if pages:
                removed += conn.execute(sql["delete_old_chunks"], {**key, "page_ids": pages}).rowcount
                conn.execute(sql["delete_old_fences"], {**key, "page_ids": pages})
                continue
            conn.execute(sql["delete_old_pending"], key)
        conn.execute(sql["forget_previous"], key)
        log.info("%d chunks of %s were removed for %s", removed, model, tenant_id)
        return removed
