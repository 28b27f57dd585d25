"""What Postgres would refuse, found before it is sent: one bad row must not cost its neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from include.gleaner.errors import InvalidChunkError
from include.gleaner.models import Chunk

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
    leaves = list(_leaves(chunk.metadata))
    if not all(math.isfinite(value) for value in leaves if isinstance(value, float)):
        raise InvalidChunkError("metadata holds a number that is not finite")
    texts = [getattr(chunk, name) or "" for name in _TEXTS]
    told = [value for value in leaves if isinstance(value, str)]
    if _is_storable("\n".join((*texts, *told))):  # all at once, which is what nearly always comes of it
        return
    bad = next((name for name, text in zip(_TEXTS, texts, strict=True) if not _is_storable(text)), "metadata")
    raise InvalidChunkError(f"{bad} holds a NUL or half a surrogate pair")


def _is_storable(text: str) -> bool:
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


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
