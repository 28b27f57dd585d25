"""Takes texts in, group after group, so that no more of them is held than the requests under way need."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from include.gleaner.config import EmbedPolicy
from include.gleaner.embed.batching import Plan, pack
from include.gleaner.models import EmbeddedBatch, TextGroup
from include.gleaner.text import strip_binary


class Intake:
    """The texts of group after group, each packed when it is asked for; positions count on over the groups."""

    def __init__(self, groups: Iterable[TextGroup], policy: EmbedPolicy) -> None:
        self._groups = iter(groups)
        self._policy = policy
        self._first = 0  # position of the next group's first text
        self._texts: dict[int, str] = {}
        self.is_empty = False

    def next_plan(self) -> Plan | None:
        """The next group's requests; None, and from then on, when there is no other group."""
        group = None if self.is_empty else next(self._groups, None)
        if group is None:
            self.is_empty = True
            return None
        first = self._first
        clean = [strip_binary(text)[0] for text in group.texts]
        plan = pack(clean, group.token_counts, self._policy)
        self._first += len(clean)
        self._texts.update((first + at, text) for at, text in enumerate(clean) if at not in plan.refused)
        return Plan(
            requests=tuple(
                replace(request, positions=tuple(first + at for at in request.positions)) for request in plan.requests
            ),
            refused={first + at: reason for at, reason in plan.refused.items()},
        )

    def texts(self, positions: Sequence[int]) -> list[str]:
        return [self._texts[at] for at in positions]

    def forget(self, positions: Iterable[int]) -> None:
        """Drop texts that are answered: memory holds what is under way."""
        for at in positions:
            del self._texts[at]


def group_by_group(
    embed: Callable[[Sequence[str], Sequence[int] | None], Iterator[EmbeddedBatch]],
    groups: Iterable[TextGroup],
    dimensions: int,
) -> Generator[EmbeddedBatch, None, None]:
    """One group after the other, for a model that has nothing to wait for; positions count on."""
    first = 0
    for group in groups:
        if not group.texts:
            yield no_vectors(dimensions, {})
        for answer in embed(group.texts, group.token_counts):
            yield replace(
                answer,
                positions=tuple(first + at for at in answer.positions),
                refused={first + at: reason for at, reason in answer.refused.items()},
            )
        first += len(group.texts)


def no_vectors(dimensions: int, refused: Mapping[int, str]) -> EmbeddedBatch:
    """The batch that only says which positions are refused, and why."""
    nothing = np.empty((0, dimensions), np.float32)
    return EmbeddedBatch(positions=(), vectors=nothing, tokens=0, refused=dict(refused))
