"""Embeds through an OpenAI-compatible endpoint."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Iterator, Sequence
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from include.gleaner.config import EmbedPolicy
from include.gleaner.embed.dispatch import Dispatch
from include.gleaner.embed.gate import Gate, OpenGate
from include.gleaner.embed.intake import Intake
from include.gleaner.embed.pacing import Pacing
from include.gleaner.embed.transport import Transport
from include.gleaner.errors import EmbeddingRefusedError, EmbeddingUnavailableError
from include.gleaner.models import EmbeddedBatch, TextGroup


class EndpointEmbedder:
    """Embeds with the policy's model at its `base_url`.

    Raises EmbeddingRefusedError for a key or an address that cannot be used.
    """

    def __init__(
        self, policy: EmbedPolicy, api_key: str, *, gate: Gate | None = None, backoff_seconds: float = 0.5
    ) -> None:
        key = api_key.strip()
        if not key.isascii() or not key.isprintable() or " " in key:
            raise EmbeddingRefusedError(
                "the embedding key has characters that no key has; correct the password of its Airflow connection"
            )
        self._policy = policy
        self._key = key
        self._host = host_of(policy)
        self._gate = gate or OpenGate()
        self._backoff_seconds = backoff_seconds

    @property
    def model(self) -> str:
        """Name of the model at the endpoint."""
        return self._policy.model

    @property
    def dimensions(self) -> int:
        """Length of every vector; an answer of another length is refused."""
        return self._policy.dimensions

    @property
    def limit(self) -> None:
        """Chunks have a quarter of what OpenAI's models take; what another one refuses is told with its reason."""

    def embed(self, texts: Sequence[str], token_counts: Sequence[int] | None = None) -> Iterator[EmbeddedBatch]:
        """Vectors for `texts`, one batch for each answered request, in the order of the answers.

        Inputs that the endpoint refuses come in `refused`, the others of their request are kept. On an error, what is
        under way is still waited for and handed out, because it is paid for; then the error is raised.
        """
        if texts:
            yield from self.embed_groups([TextGroup(texts=texts, token_counts=token_counts)])

    def embed_groups(self, groups: Iterable[TextGroup]) -> Generator[EmbeddedBatch, None, None]:
        """Like `embed`; so many groups are taken as there may be requests under way, and not yet stored."""
        pacing = Pacing(
            concurrency=self._policy.concurrency,
            backoff_seconds=self._backoff_seconds,
            jitter=random.random,
        )
        with Transport(self._policy, self._key) as transport:
            intake = Intake(groups, self._policy)
            yield from Dispatch(self._policy, self._host, transport, pacing, intake, self._gate).answers()

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector to search with. EmbeddingRefusedError when the endpoint refuses the text."""
        for answer in self.embed([text]):
            for reason in answer.refused.values():
                raise EmbeddingRefusedError(f"the query cannot be embedded: {reason}", positions=(0,))
            if answer.positions:
                vector: NDArray[np.float32] = answer.vectors[0]
                return vector
        raise EmbeddingUnavailableError("the endpoint gave no vector for the query; try again")


def host_of(policy: EmbedPolicy) -> str:
    """Name of the endpoint for messages: the whole address may carry a password."""
    try:
        parts = urlsplit(policy.base_url or "")
        host = parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
    except ValueError:
        host = None
    if not host:
        raise EmbeddingRefusedError(
            "the endpoint's address needs to be like https://api.openai.com/v1; "
            "correct the host of its Airflow connection"
        )
    return host
