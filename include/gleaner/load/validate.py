"""What Postgres would refuse, found before it is sent: one bad row must not cost its neighbours."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from include.gleaner.errors import InvalidChunkError
from include.gleaner.models import Chunk

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


_TEXTS = (
    "chunk_type",
    "section_title",
    "full_text",
    "embedded_text",
    "search_text",
    "language",
    "tldr",
    "embedded_tldr",
)
_MOST = (1 << 31) - 1


def check_chunk(chunk: Chunk) -> None:
    """Raise InvalidChunkError for text that is no storable text, and for an empty chunk."""
    if not chunk.full_text.strip():
        raise InvalidChunkError("the chunk is empty")
    for name in ("chunk_index", "token_count", "word_count"):
        if not 0 <= getattr(chunk, name) <= _MOST:
            raise InvalidChunkError(f"{name} is negative or no 32-bit number")
    for name in _TEXTS:
        if _UNSTORABLE.search(getattr(chunk, name) or ""):
            raise InvalidChunkError(f"{name} holds a NUL or half a surrogate pair")
    for value in _leaves(chunk.metadata):
        if isinstance(value, str) and _UNSTORABLE.search(value):
            raise InvalidChunkError("metadata holds a NUL or half a surrogate pair")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidChunkError("metadata holds a number that is not finite")


def check_vector(vector: bytes, dimensions: int) -> None:
    """Raise InvalidChunkError unless `vector` is `dimensions` finite float32 numbers, not all of them zero."""
    numbers = np.frombuffer(vector, "<f4") if len(vector) % 4 == 0 else np.empty(0, "<f4")
    if len(numbers) != dimensions:
        raise InvalidChunkError(f"the vector has {len(numbers)} dimensions instead of {dimensions}")
    if not np.isfinite(numbers).all():
        raise InvalidChunkError("the vector holds numbers that are not finite")
    if not numbers.any():
        raise InvalidChunkError("the vector is all zeros, which has no direction to compare")


def _leaves(value: Any) -> Iterator[Any]:
    """All keys and values of nested JSON, without recursion."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, Mapping):
            todo.extend(item.keys())
            todo.extend(item.values())
        elif isinstance(item, list | tuple):
            todo.extend(item)
        else:
            yield item
