"""The brake on pages that lose what they say without being gone: another error on each page, with status 200.

Nobody can tell from one page whether an error stands there or news. From a whole site one can: many pages at once that
say little, and nothing of what they said, are a loss like many pages that are gone. They stay as they are known.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any, Final

import psycopg

from include.gleaner.config import RunPolicy
from include.gleaner.pipeline.reconciling import allowed_deletes
from include.gleaner.process.losses import is_lost
from include.gleaner.process.records import document_from_json
from include.gleaner.process.repeats import without_repeats
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

_MOST_OF_IT: Final = 0.5  # of a website so small that the brake would not care
_FEW: Final = 2  # pages of it


def hold_losses(
    conn: psycopg.Connection, *, tenant_id: str, source_id: uuid.UUID, repeats: frozenset[int], policy: RunPolicy
) -> int:
    """Set aside the documents that would overwrite more than may be lost at once; how many. In a transaction.

    What is loaded of their pages stays. The next run with documents to load looks at them again.
    """
    sql = queries("survey")
    key: dict[str, Any] = {"tenant_id": tenant_id, "source_id": source_id}
    changed = [row[0] for row in conn.execute(sql["overwriting"], key)]
    if not changed:
        return 0
    loaded, without = conn.execute(sql["at_stake"], key).fetchone() or (0, 0)
    if not _is_too_many(len(changed), without, loaded, policy):
        return 0
    lost = []
    for page_id in changed:
        document, before = conn.execute(sql["before_and_after"], {**key, "page_id": page_id}).fetchone() or (None, "")
        if document and is_lost(before, without_repeats(document_from_json(document), repeats)):
            lost.append(page_id)
    if not _is_too_many(len(lost), without, loaded, policy):
        return 0
    conn.execute(sql["hold"], {**key, "page_ids": lost})
    log.warning(
        "delete brake: %d of %d loaded pages say little now, and nothing of what they said; they stay as they are "
        "known. Look at the site; if it is right, run again with max_delete_share raised.",
        len(lost), loaded,
    )  # fmt: skip
    return len(lost)


def _is_too_many(lost: int, without: int, loaded: int, policy: RunPolicy) -> bool:
    """Whether `lost` pages, beside those that are `without` content already, are more than may go."""
    if not lost:
        return False
    most_of_it = max(policy.max_delete_share, _MOST_OF_IT) * loaded
    return lost + without > allowed_deletes(loaded, policy) or (lost >= _FEW and lost > most_of_it)
