"""Brings the vectors of group after group of pages, while the endpoint is already asked for those of the next.

Vectors the tenant has are taken, the rest is asked for, and each answer is stored before the next is waited for: a
task that is killed pays again for the requests under way at most. All of it runs in the task's thread, over its one
connection; only the requests themselves are elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field

import psycopg

from include.gleaner.embed import Embedder
from include.gleaner.errors import EmbeddingPausedError
from include.gleaner.load.store import KnowledgeStore
from include.gleaner.models import EmbeddedBatch, Patience, TextGroup, Usage
from include.gleaner.pipeline.accounting import BatchTally
from include.gleaner.pipeline.grouping import Group, texts_of
from include.gleaner.pipeline.quota import Quota
from include.gleaner.report.stats import count, timing

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class GroupVectors:
    """A group with the vectors that it gets."""

    group: Group
    inputs: int  # vectors that its chunks take
    vectors: dict[bytes, bytes]  # by hash of the text
    refused: dict[bytes, str] = field(default_factory=dict)  # hash of the text -> reason
    asked: int = 0  # texts that were asked for on account of this group
    withheld: int = 0  # of its texts, for the month's quota is spent
    waits_for: set[bytes] = field(default_factory=set)  # hashes of texts that are not answered yet
    without: int = 0  # texts that were given up, because the endpoint failed again and again

    @property
    def known(self) -> int:
        """Vectors that were there, or under way for another group."""
        return self.inputs - self.asked - self.withheld


class VectorFlow:
    """The vectors of one try of one batch. `has_counts`: whether the chunks are counted in the endpoint's encoding;
    without such counts requests are packed safely below their limit.
    """

    def __init__(
        self,
        conn: psycopg.Connection,
        store: KnowledgeStore,
        embedder: Embedder,
        tally: BatchTally,
        quota: Quota,
        *,
        has_counts: bool,
    ) -> None:
        self._conn = conn
        self._store = store
        self._embedder = embedder
        self._tally = tally
        self._quota = quota
        self._has_counts = has_counts
        self._open: list[GroupVectors] = []  # in the order in which they came
        self._waiting: dict[bytes, list[GroupVectors]] = {}  # who waits for the vector of a text
        self._asked: dict[int, tuple[bytes, int]] = {}  # position -> hash and tokens of a text that is under way
        self._positions = 0

    def of(self, groups: Iterable[Group]) -> Generator[GroupVectors, None, None]:
        """Each group as soon as it waits for nothing any more.

        `groups` is taken from when the embedder has room for more requests. Raises what the embedder raises, but for a
        pause: then texts go without vectors.
        """
        source = self._text_groups(iter(groups))
        while True:
            self._asked, self._positions = {}, 0
            try:
                with closing(self._embedder.embed_groups(source)) as answers:
                    for answer in answers:
                        self._keep(answer)
                        yield from self._complete()
            except EmbeddingPausedError as error:
                self._give_up(error)
                yield from self._complete()
            else:
                return

    def _text_groups(self, groups: Iterable[Group]) -> Generator[TextGroup, None, None]:
        for group in groups:
            yield self._begin(group)

    def _begin(self, group: Group) -> TextGroup:
        """Take what is known, reserve and name what is to be asked for; what is under way is waited for."""
        texts, tokens, inputs = texts_of(group.pages)
        item = GroupVectors(group=group, inputs=inputs, vectors=self._store.known_vectors(texts))
        missing = [key for key in texts if key not in item.vectors]
        wanted = [key for key in missing if key not in self._waiting]
        item.asked = self._quota.admit([tokens[key] for key in wanted]) if wanted else 0
        item.withheld = len(wanted) - item.asked
        del wanted[item.asked :]
        for key in wanted:
            self._waiting[key] = []
            self._asked[self._positions] = key, tokens[key]
            self._positions += 1
        for key in missing:
            if key in self._waiting:
                self._waiting[key].append(item)
                item.waits_for.add(key)
        self._open.append(item)
        counts = [tokens[key] for key in wanted] if self._has_counts else None
        return TextGroup(texts=[texts[key] for key in wanted], token_counts=counts)

    def _keep(self, answer: EmbeddedBatch) -> None:
        """Store what was paid for, and hand it to who waits for it."""
        asked = [self._asked.pop(at) for at in (*answer.positions, *answer.refused)]
        keys = [key for key, _ in asked]
        fresh = {key: vector.tobytes() for key, vector in zip(keys, answer.vectors, strict=False)}
        requests = int(answer.tokens > 0)  # what is refused before it is sent is no request
        if fresh or requests:  # also of an answer whose vectors are all of no use: it was charged
            self._store.keep_vectors(fresh, Usage(requests=requests, inputs=len(fresh), tokens=answer.tokens))
        if asked or answer.patience != Patience():
            self._quota.answered(sum(tokens for _, tokens in asked))
            self._tally.embedded += len(fresh)
            self._tally.requests += requests
            self._tally.tokens += answer.tokens
            self._tally.waited(answer.patience)
            self._tally.save(self._conn)
            _tell(answer, requests)
        reasons = dict(zip(keys[len(fresh) :], answer.refused.values(), strict=True))
        for key in keys:
            for item in self._waiting.pop(key):
                item.waits_for.discard(key)
                if key in fresh:
                    item.vectors[key] = fresh[key]
                else:
                    item.refused[key] = reasons[key]

    def _give_up(self, error: EmbeddingPausedError) -> None:
        """Nobody asks the endpoint now: what waits for it goes on without."""
        self._quota.answered(sum(tokens for _, tokens in self._asked.values()))
        log.warning(
            "%s. %d texts are stored without vectors; maintain_knowledge fills them in", error, len(self._waiting)
        )
        for item in self._open:
            item.without = sum(self._waiting[key][0] is item for key in item.waits_for)  # who asked is the first
            item.waits_for.clear()
        self._waiting.clear()

    def _complete(self) -> Generator[GroupVectors, None, None]:
        done = [item for item in self._open if not item.waits_for]
        self._open = [item for item in self._open if item.waits_for]
        yield from done


def _tell(answer: EmbeddedBatch, requests: int) -> None:
    """What one answer was, and how long the endpoint took for it."""
    if answer.seconds:
        timing("embedding.seconds", answer.seconds)
    count("embedding.requests", requests)
    count("embedding.inputs", len(answer.positions))
    count("embedding.tokens", answer.tokens)
    count("embedding.throttled", answer.patience.throttled)
    count("embedding.failures", answer.patience.failures)
    count("limiter.waits", answer.patience.waits)
    if answer.patience.waits:
        timing("limiter.seconds", answer.patience.seconds)
