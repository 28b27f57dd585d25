"""How a call of `embed` can end badly, each with what to do. No key, no text: only what the endpoint is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from include.gleaner.config import EmbedPolicy
from include.gleaner.errors import (
    EmbeddingPausedError,
    EmbeddingQuotaError,
    EmbeddingRefusedError,
    EmbeddingUnavailableError,
)

QUOTA_RETRY_SECONDS: Final = 3_600.0  # somebody has to pay first
_KEPT: Final = "what was answered is kept, the task goes on from there when it is run again"


def asks_for_patience(host: str, reason: str, seconds: float) -> EmbeddingQuotaError:
    """It answers 429, for longer than a slot should be held."""
    told = f"{host} asks for patience ({reason}) for {seconds:.0f} s more; {_KEPT}"
    return EmbeddingQuotaError(told, retry_after=seconds)


def limits_spent(host: str, seconds: float, least: float) -> EmbeddingQuotaError:
    """Our own limits for it are spent, for longer than a slot should be held."""
    told = f"the limits of {host} are spent for {seconds:.0f} s more; {_KEPT}"
    return EmbeddingQuotaError(told, retry_after=max(seconds, least))


def quota_used_up(host: str, reason: str) -> EmbeddingQuotaError:
    """There is no credit left."""
    told = f"the quota at {host} is used up ({reason}); raise it, then clear the task"
    return EmbeddingQuotaError(told, retry_after=QUOTA_RETRY_SECONDS)


def paused(host: str, seconds: float) -> EmbeddingPausedError:
    """The breaker is open."""
    return EmbeddingPausedError(
        f"{host} failed again and again, nobody asks it for {seconds:.0f} s; "
        "what was answered is kept, the rest is asked for later",
        retry_after=seconds,
    )


def cannot_be_used(host: str, reason: str, times: int) -> EmbeddingUnavailableError:
    """One request failed as often as it may."""
    return EmbeddingUnavailableError(f"{host} cannot be used ({reason}, {times} times); {_KEPT}")


def wrong_dimensions(host: str, policy: EmbedPolicy, dimensions: int) -> EmbeddingRefusedError:
    """Vectors of another length than the connection says."""
    return EmbeddingRefusedError(
        f"{host} gives {dimensions} dimensions for {policy.model!r} where {policy.dimensions} are expected; "
        "correct the extra of its Airflow connection"
    )


def refuses_model(host: str, policy: EmbedPolicy, reason: str) -> EmbeddingRefusedError:
    """Wrong for good: key, address or model."""
    return EmbeddingRefusedError(
        f"{host} refuses model {policy.model!r} ({reason}); correct key, host and model in its Airflow connection"
    )


def refuses_every_text(host: str, reason: str, positions: Sequence[int]) -> EmbeddingRefusedError:
    """So many texts in a row that it is not the texts."""
    return EmbeddingRefusedError(
        f"{host} refuses every text so far ({reason}); check the model in its Airflow connection", positions=positions
    )
