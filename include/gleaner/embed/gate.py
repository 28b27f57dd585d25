"""What stands before an endpoint: limits and a breaker that all workers share, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Admission:
    """May a request go?"""

    wait: float = 0.0  # seconds after which to ask again; 0: it may go now
    closed_for: float = 0.0  # seconds that nobody asks, because the endpoint does not work; above 0 do not wait


class Gate(Protocol):
    """Asked before each request and told how it ended. Never waits itself. Raises EmbeddingUnavailableError."""

    def admit(self, tokens: int) -> Admission:
        """May a request with so many tokens go now? If so, it is counted."""

    def succeeded(self) -> None:
        """A request was answered with vectors, or with a refusal of what is in it."""

    def failed(self) -> float:
        """A request failed by the endpoint's fault. Returns the seconds for which nobody asks now, 0 for none."""


class OpenGate:
    """No limits."""

    def admit(self, tokens: int) -> Admission:
        """Always."""
        return Admission()

    def succeeded(self) -> None:
        """Nothing is counted."""

    def failed(self) -> float:
        """Nothing is counted."""
        return 0.0
