"""Reads an endpoint's answer, and trusts nothing in it. Pure.

A vector that stands for the wrong text is worse than none, and nobody would notice: an answer that is not exactly one
vector for each input is no answer.
"""

from __future__ import annotations

import binascii
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pybase64
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_ROWS_AT_ONCE = 256


class UnusableAnswerError(ValueError):
    """The body is not the embeddings that were asked for; the message quotes nothing of it."""


class WrongDimensionsError(UnusableAnswerError):
    """The model's vectors have another length than the policy says; asking again changes nothing."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        super().__init__(f"vectors of {dimensions} dimensions")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Vectors by the order of the inputs."""

    vectors: Floats  # (inputs, dimensions), rows of norm 1; rows that are not `usable` hold nothing of meaning
    usable: NDArray[np.bool_]  # (inputs,); False where a vector had NaN, infinity or no length
    tokens: int | None  # as billed; None when the endpoint does not say


def read_answer(body: bytes, inputs: int, dimensions: int) -> Answer:
    """The vectors in `body`, the JSON of an embeddings response, ordered by each item's `index`.

    Vectors may be base64 of little-endian float32, as asked for, or lists of numbers, as some servers send anyway.
    Raises WrongDimensionsError, or UnusableAnswerError for everything else that is wrong.
    """
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise UnusableAnswerError("a body that is no JSON") from None
    items = data.get("data") if isinstance(data, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise UnusableAnswerError("a body without a list of embeddings")
    if len(items) != inputs:
        raise UnusableAnswerError(f"{len(items)} vectors for {inputs} inputs")
    rows: dict[int, Floats] = {}
    for item in items:
        index = item.get("index")
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < inputs or index in rows:
            raise UnusableAnswerError("vectors whose index is missing, repeated or out of range")
        rows[index] = _vector(item.get("embedding"))
    for row in rows.values():
        if len(row) != dimensions:
            raise WrongDimensionsError(len(row))
    vectors, usable = _normalised(np.stack([rows[index] for index in range(inputs)]))
    return Answer(vectors=vectors, usable=usable, tokens=_tokens(data))


def _vector(value: object) -> Floats:
    if isinstance(value, str):
        try:
            raw = pybase64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise UnusableAnswerError("a vector that is no base64") from None
        if not raw or len(raw) % 4:
            raise UnusableAnswerError("a vector that is no float32")
        return np.frombuffer(raw, "<f4").astype(np.float32)
    if isinstance(value, list) and value:
        # None is how some servers write NaN; as NaN it costs this input alone.
        numbers = [np.nan if number is None else number for number in value]
        if all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
            with np.errstate(over="ignore"):
                try:
                    return np.array(numbers, np.float64).astype(np.float32)
                except OverflowError:
                    pass
    raise UnusableAnswerError("a vector that is neither base64 nor a list of numbers")


def _normalised(vectors: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The vectors with norm 1, changed in place: some at a time, because an answer may have two thousand."""
    usable = np.empty(len(vectors), np.bool_)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        wide = vectors[part].astype(np.float64)  # the squares of large float32 values overflow
        with np.errstate(invalid="ignore", over="ignore"):
            norms = np.linalg.norm(wide, axis=1)
        usable[part] = np.isfinite(norms) & (norms > 1e-12)
        norms[~usable[part]] = 1.0
        vectors[part] = wide / norms[:, np.newaxis]
    return vectors, usable


def _tokens(data: dict[str, Any]) -> int | None:
    usage = data.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    # Some servers send 0 where they do not count: nothing would be charged, and no quota ever spent.
    return total if isinstance(total, int) and not isinstance(total, bool) and 0 < total < 1 << 31 else None
