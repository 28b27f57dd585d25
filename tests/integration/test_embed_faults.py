"""An endpoint that limits, fails, hangs or is not there: no text is paid twice, and what was answered is kept."""

from __future__ import annotations

import logging
import time
import tracemalloc
from contextlib import nullcontext
from typing import Any

import pytest

from include.gleaner.errors import (
    EmbeddingQuotaError,
    EmbeddingUnavailableError,
)
from include.gleaner.models import EmbeddedBatch
from tests.support.embedding_answers import reference_encoding
from tests.support.embedding_client import (
    SECRET,
    assert_all_right,
    assert_silent,
    by_position,
    embedder_for,
    kept_until,
    take,
    texts_of,
)
from tests.support.embedding_server import EmbeddingServer


@pytest.mark.parametrize(
    "fault",
    [
        {"error_every": 3},
        {"error_first": 2, "error_status": 503},
        {"drop_every": 3},
        {"rate_limit_every": 3},
        {"rate_limit_every": 3, "retry_after": "0.05"},
        {"rate_limit_first": 3, "retry_after": "0"},
        {"wrong_count_first": 2},
        {"repeated_index_first": 2},
        {"cut_first": 2},
        {"garbage_first": 2},
        {"nan_first": 2},
    ],
    ids=lambda fault: "-".join(fault),
)
def test_faults_of_the_moment_cost_no_text_twice(endpoint: EmbeddingServer, fault: dict[str, Any]) -> None:
    endpoint.configure(**fault)
    texts = texts_of(95)
    batches = list(embedder_for(endpoint).embed(texts))
    assert_all_right(batches, texts)
    stats = endpoint.stats()
    assert stats.repeated == 0
    assert stats.inputs == 95
    assert stats.calls > 10  # the fault did happen


def test_an_endpoint_that_hangs_or_trickles_is_left(endpoint: EmbeddingServer) -> None:
    reference_encoding()  # loaded by the first call of a process, which may take longer than the caller waits here
    texts = texts_of(10)
    for fault in ({"hang_first": 1}, {"hang_first": 0, "trickle_first": 1}):
        endpoint.reset()
        endpoint.configure(**fault)
        batches = list(embedder_for(endpoint, timeout_seconds=1.5).embed(texts))
        assert_all_right(batches, texts)
        assert endpoint.stats().calls == 2


def test_a_rate_limit_is_waited_for_as_long_as_it_says(endpoint: EmbeddingServer) -> None:
    endpoint.configure(rate_limit_first=1, retry_after="0.4")
    began = time.monotonic()
    assert_all_right(list(embedder_for(endpoint).embed(texts_of(5))), texts_of(5))
    assert time.monotonic() - began >= 0.4
    assert endpoint.stats().calls == 2


def test_a_rate_limit_halves_what_is_under_way(endpoint: EmbeddingServer) -> None:
    endpoint.configure(rate_limit_first=8, retry_after="0.05", latency_ms=30, together=8)
    texts = texts_of(160)
    answers = embedder_for(endpoint, concurrency=8).embed(texts)
    first = next(answers)
    # All eight were refused: 8 requests halved to 4, then 5 after the first answer.
    assert endpoint.stats().most_under_way == 8
    endpoint.configure(together=0)
    endpoint.reset()
    assert_all_right([first, *answers], texts)
    assert endpoint.stats().most_under_way < 8


def test_a_wait_that_is_too_long_is_given_back_at_once(endpoint: EmbeddingServer) -> None:
    endpoint.configure(rate_limit_every=4, retry_after="600")
    texts = texts_of(60)
    began = time.monotonic()
    batches: list[EmbeddedBatch] = []
    with pytest.raises(EmbeddingQuotaError) as caught:
        take(batches, embedder_for(endpoint).embed(texts))
    assert time.monotonic() - began < 10
    assert 590 < caught.value.retry_after < 700
    assert_silent(caught.value)
    # Whatever was answered was handed out, also what was under way when the error came.
    assert sum(len(batch.positions) for batch in batches) == endpoint.stats().inputs >= 30


def test_endless_rate_limits_end(endpoint: EmbeddingServer) -> None:
    endpoint.configure(rate_limit_every=1)
    with pytest.raises(EmbeddingQuotaError) as caught:
        list(embedder_for(endpoint, max_wait_seconds=0.5).embed(texts_of(20)))
    assert_silent(caught.value)


def test_a_used_up_quota_is_told_at_once_and_the_rest_is_kept(endpoint: EmbeddingServer) -> None:
    endpoint.configure(quota_after=3)
    texts = texts_of(100)
    batches = kept_until(embedder_for(endpoint), texts, EmbeddingQuotaError)
    assert len(by_position(batches)) == endpoint.stats().inputs == 30
    assert endpoint.stats().calls <= 3 + 4  # nothing was asked again
    endpoint.configure(quota_after=0)
    done = by_position(batches)
    rest = [text for at, text in enumerate(texts) if at not in done]
    assert_all_right(list(embedder_for(endpoint).embed(rest)), rest)
    assert endpoint.stats().repeated == 0


def test_an_endpoint_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with EmbeddingServer() as gone:
        embedder = embedder_for(gone, attempts=2)
    batches = kept_until(embedder, texts_of(30), EmbeddingUnavailableError)
    assert [(batch.positions, dict(batch.refused)) for batch in batches] == [((), {})]
    assert 4 <= batches[0].patience.failures <= 6  # three requests, twice; whoever gives up first ends it for all
    assert SECRET not in caplog.text


def test_server_errors_without_end(endpoint: EmbeddingServer) -> None:
    endpoint.configure(error_every=1)
    with pytest.raises(EmbeddingUnavailableError, match="HTTP 500") as caught:
        list(embedder_for(endpoint, attempts=3, concurrency=1).embed(texts_of(30)))
    assert endpoint.stats().calls <= 3 * 3
    assert_silent(caught.value)


@pytest.mark.parametrize("status", [500, 400])
def test_an_error_without_end_does_not_fill_the_memory(endpoint: EmbeddingServer, status: int) -> None:
    """A few hundred kilobytes may be compressed from as many megabytes."""
    endpoint.configure(error_every=1, error_status=status, error_megabytes=64)
    embedder = embedder_for(endpoint, attempts=1, concurrency=1)
    tracemalloc.start()
    try:
        if status == 400:
            (answer,) = embedder.embed(["a"])
            assert answer.refused == {0: "HTTP 400 server_error"}
        else:
            with pytest.raises(EmbeddingUnavailableError, match="HTTP 500 server_error"):
                list(embedder.embed(["a"]))
        grown = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert grown < 32 << 20, f"{grown >> 20} MB"


@pytest.mark.parametrize("error_every", [0, 1])
def test_an_address_with_a_password_is_in_no_log(
    endpoint: EmbeddingServer, caplog: pytest.LogCaptureFixture, error_every: int
) -> None:
    endpoint.configure(api_key="", error_every=error_every)
    address = endpoint.url.replace("http://", "http://somebody:not-for-logs@")
    embedder = embedder_for(endpoint, base_url=address, attempts=2, concurrency=1)
    with caplog.at_level(logging.DEBUG), pytest.raises(EmbeddingUnavailableError) if error_every else nullcontext():
        assert len(list(embedder.embed(["a"]))) == 1
    assert "not-for-logs" not in caplog.text
    assert caplog.text  # somebody listened
