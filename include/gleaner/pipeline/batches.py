"""Batches as they travel between tasks: ids and counts, never rows."""

from __future__ import annotations

import uuid
from typing import Any

from include.gleaner.models import Batch

BatchData = dict[str, Any]


def batch_to_data(batch: Batch) -> BatchData:
    """The batch as a task hands it to the next: JSON, by XCom."""
    return {
        "index": batch.index,
        "of": batch.of,
        "first_page": str(batch.first_page),
        "last_page": str(batch.last_page),
        "pages": batch.pages,
        "label": batch.label,
    }


def batch_from_data(data: BatchData) -> Batch:
    """The batch that `batch_to_data` wrote down."""
    return Batch(
        index=data["index"],
        of=data["of"],
        first_page=uuid.UUID(data["first_page"]),
        last_page=uuid.UUID(data["last_page"]),
        pages=data["pages"],
    )
