"""The endpoint embedder before the test's endpoint, and what its answers have to be."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from include.gleaner.config import EmbedPolicy
from include.gleaner.embed import Embedder
from include.gleaner.embed.client import EndpointEmbedder
from include.gleaner.errors import (
    EmbeddingError,
)
from include.gleaner.models import EmbeddedBatch
from tests.support.embedding_answers import vector_of
from tests.support.embedding_faults import API_KEY
from tests.support.embedding_server import EmbeddingServer

SECRET = "zanzibar"  # in every text, so that a message that quotes one is noticed


def policy_for(endpoint: EmbeddingServer, **changes: Any) -> EmbedPolicy:
    policy = EmbedPolicy(
        model="text-embedding-3-small",
        dimensions=64,
        base_url=endpoint.url,
        max_inputs=10,
        timeout_seconds=20.0,
        max_wait_seconds=3.0,
    )
    return replace(policy, **changes)


def embedder_for(endpoint: EmbeddingServer, key: str = API_KEY, **changes: Any) -> Embedder:
    return EndpointEmbedder(policy_for(endpoint, **changes), key, backoff_seconds=0.01)


def texts_of(count: int) -> list[str]:
    return [f"text number {number} of {SECRET}" for number in range(count)]


def expected(texts: Sequence[str], dimensions: int = 64) -> NDArray[np.float32]:
    return np.stack([vector_of(text, dimensions) for text in texts])


def by_position(batches: Sequence[EmbeddedBatch]) -> dict[int, NDArray[np.float32]]:
    vectors: dict[int, NDArray[np.float32]] = {}
    for batch in batches:
        for position, vector in zip(batch.positions, batch.vectors, strict=True):
            assert position not in vectors
            vectors[position] = vector
    return vectors


def refused_in(batches: Sequence[EmbeddedBatch]) -> dict[int, str]:
    return {position: reason for batch in batches for position, reason in batch.refused.items()}


def assert_all_right(batches: Sequence[EmbeddedBatch], texts: Sequence[str], without: Sequence[int] = ()) -> None:
    vectors = by_position(batches)
    assert sorted(vectors) == [at for at in range(len(texts)) if at not in without]
    for position, vector in vectors.items():
        np.testing.assert_allclose(vector, vector_of(texts[position], len(vector)), atol=1e-6)


def assert_silent(error: BaseException, caplog: pytest.LogCaptureFixture | None = None) -> None:
    """Neither the error, its chain as it is printed, nor the log has the key or a text."""
    told = "".join(traceback.format_exception(error)) + str(error)
    if caplog is not None:
        told += caplog.text
    assert API_KEY not in told
    assert SECRET not in told


def kept_until(embedder: Embedder, texts: Sequence[str], error: type[EmbeddingError]) -> list[EmbeddedBatch]:
    """What was handed out before the error came."""
    batches: list[EmbeddedBatch] = []
    with pytest.raises(error) as caught:
        take(batches, embedder.embed(texts))
    assert_silent(caught.value)
    return batches


def take(batches: list[EmbeddedBatch], answers: Iterator[EmbeddedBatch]) -> None:
    """Like `extend`, but an error leaves what came before it."""
    for answer in answers:
        batches.append(answer)
