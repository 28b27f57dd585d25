"""The local model: multilingual-e5-small on the processor, in this process, without a key or a network.

Its vectors depend on the text alone. Each text is a run of its own on one thread, because activations are quantised
over a whole run: in a common run, neighbours would change each other's vectors. Several texts run at once, one a
thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from include.gleaner.config import LOCAL_DIMENSIONS, LOCAL_MODEL, EmbedPolicy
from include.gleaner.embed.artifacts import cached
from include.gleaner.embed.intake import group_by_group
from include.gleaner.embed.local_graph import BUILDER_VERSION, build_graph
from include.gleaner.embed.tokenizer import Tokenizer, build_vocabulary
from include.gleaner.embed.weights import WEIGHTS_SHA256, Floats, Weights, unpack, weights_path
from include.gleaner.errors import SetupError
from include.gleaner.models import EmbeddedBatch, TextGroup, TokenLimit
from include.gleaner.text import strip_binary

MODEL: Final = LOCAL_MODEL
DIMENSIONS: Final = LOCAL_DIMENSIONS
TEXTS_PER_BATCH: Final = 32  # about a second of work: what is lost when the task is killed

Role = Literal["query", "passage"]  # the model was trained with these words in front of a text
_PASSAGE: Final[Role] = "passage"


@dataclass(frozen=True, kw_only=True)
class _Embedded:
    vector: Floats
    tokens: int


class E5Model:
    """The loaded model. Safe to share between threads, and with a process forked while no text is in it."""

    def __init__(self) -> None:
        self._weights = Weights(weights_path())
        shape = self._weights.shape
        key = f"e5-small-{WEIGHTS_SHA256[:16]}-{BUILDER_VERSION}"
        vocabulary = cached(f"{key}.spm", lambda: build_vocabulary(self._weights))
        graph = cached(f"{key}.onnx", lambda: build_graph(self._weights))
        self._tokenizer = Tokenizer(self._weights, vocabulary)
        self._words = self._weights.packed("emb.word", shape.vocabulary, shape.hidden)
        positions = self._weights.vector("emb.pos").reshape(shape.positions, shape.hidden)
        self._positions: Floats = positions + self._weights.vector("emb.type")[: shape.hidden]
        self._window = shape.positions - 2
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # no pool of its own: nothing a fork could lose
        # The optimiser's fused layer norm is slower here, and what it fuses varies between machines.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def embed(self, text: str, role: Role) -> _Embedded:
        """The vector of one text, float32 of length 384 and norm 1.

        A text of more than 510 tokens is embedded in windows of that length; the mean is weighted by their tokens.
        """
        ids = self._tokenizer.encode(f"{role}: {strip_binary(text)[0]}")
        total = np.zeros(DIMENSIONS, np.float64)
        for start in range(0, len(ids), self._window):
            window = ids[start : start + self._window]
            total += self._mean_state(window).astype(np.float64) * len(window)
        return _Embedded(vector=(total / np.linalg.norm(total)).astype(np.float32), tokens=len(ids))

    @property
    def limit(self) -> TokenLimit:
        """What the model reads at once of a passage."""
        frame = len(self._tokenizer.encode(f"{_PASSAGE}: "))
        return TokenLimit(count=self._tokenizer.count, most=self._window - frame)

    def _mean_state(self, ids: Sequence[int]) -> Floats:
        shape = self._weights.shape
        framed = [shape.bos, *ids, shape.eos]
        embeddings = unpack(self._words[framed]) + self._positions[: len(framed)]
        (states,) = self._session.run(None, {"embeddings": embeddings[np.newaxis]})
        mean: Floats = states[0].mean(axis=0)
        return mean


class LocalEmbedder:
    """Embeds with the model of this process, which is loaded when the first text comes."""

    model = MODEL
    dimensions = DIMENSIONS

    def __init__(self, policy: EmbedPolicy, threads: int | None = None) -> None:
        if (policy.model, policy.dimensions) != (MODEL, DIMENSIONS):
            raise SetupError(
                f"the local model is {MODEL} ({DIMENSIONS} dimensions), not {policy.model} ({policy.dimensions}); "
                "an endpoint for other models is set with: airflow connections add gleaner_openai"
            )
        self._threads = threads_from(os.environ) if threads is None else threads

    @property
    def limit(self) -> TokenLimit:
        """510 tokens with the word "passage" before them; loads the model."""
        return shared_model().limit

    def embed(self, texts: Sequence[str], token_counts: Sequence[int] | None = None) -> Iterator[EmbeddedBatch]:
        """Vectors for `texts` as passages, 32 texts at a time and in their order; `token_counts` are not needed.

        Texts are computed ahead while the caller works; closing the iterator drops what has not begun.
        """
        wanted = [position for position, text in enumerate(texts) if text.strip()]
        blank = {position: "empty text" for position, text in enumerate(texts) if not text.strip()}
        if blank:
            nothing = np.empty((0, DIMENSIONS), np.float32)
            yield EmbeddedBatch(positions=(), vectors=nothing, tokens=0, refused=blank)
        if not wanted:
            return
        model = shared_model()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="embed")
        try:
            results: list[Future[_Embedded]] = [pool.submit(model.embed, texts[at], _PASSAGE) for at in wanted]
            for start in range(0, len(wanted), TEXTS_PER_BATCH):
                part = [future.result() for future in results[start : start + TEXTS_PER_BATCH]]
                yield EmbeddedBatch(
                    positions=tuple(wanted[start : start + TEXTS_PER_BATCH]),
                    vectors=np.stack([item.vector for item in part]),
                    tokens=sum(item.tokens for item in part),
                )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def embed_groups(self, groups: Iterable[TextGroup]) -> Generator[EmbeddedBatch, None, None]:
        """One group after the other: there is no endpoint that could work meanwhile."""
        return group_by_group(self.embed, groups, DIMENSIONS)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector to search with, float32 of length 384 and norm 1."""
        return shared_model().embed(text, "query").vector


def threads_from(environ: Mapping[str, str]) -> int:
    """Texts computed at once: GLEANER_EMBED_THREADS, else two, or one on a single processor."""
    value = environ.get("GLEANER_EMBED_THREADS", "").strip()
    if not value:
        return min(2, os.cpu_count() or 1)
    if not value.isascii() or not value.isdigit() or len(value) > 3 or not 1 <= int(value) <= 256:
        raise SetupError("GLEANER_EMBED_THREADS needs a whole number from 1 to 256")
    return int(value)


_lock = threading.Lock()
_loaded: E5Model | None = None


def shared_model() -> E5Model:
    """The model of this process, loaded once. Raises SetupError when it is not installed or is damaged."""
    global _loaded
    with _lock:
        if _loaded is None:
            _loaded = E5Model()
        return _loaded


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    # A thread that was loading the model does not exist in the child, and would hold the lock there for ever.
    os.register_at_fork(after_in_child=_renew_lock)
