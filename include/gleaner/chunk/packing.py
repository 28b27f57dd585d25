"""Fills chunks with the blocks of one part, greedily and in order. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from include.gleaner.chunk.parts import number_of
from include.gleaner.chunk.pieces import GLUE, Piece, fitting, pieces_of, whole_block
from include.gleaner.chunk.tokens import Meter, count_tokens, estimate
from include.gleaner.config import ChunkPolicy
from include.gleaner.models import Block, BlockKind

LEAST_FILL: Final = 0.4  # of the budget; from there on a full chunk may end
LIKELY_FILL: Final = 0.9  # a part that is estimated to have no more is measured as a whole
TAIL_FILL: Final = 0.25  # a last chunk with less shares with the one before it
_SENTENCES: Final = frozenset(("paragraph", "quote"))
_NO_PROSE: Final = frozenset(("code", "table"))


@dataclass(slots=True, kw_only=True)
class Packed:
    """What goes into one chunk."""

    text: str
    tokens: int  # with the prefix
    prose: str  # without code and tables
    language: str  # of most of the text


class Packer:
    """Packs parts whose chunks all begin with `prefix`: the shortened breadcrumb, or nothing."""

    def __init__(self, meter: Meter, policy: ChunkPolicy, prefix: str, language: str) -> None:
        self._meter = meter
        self._prefix = prefix
        self._prefix_size = 0
        self._language = language
        self._most = policy.max_tokens
        self._overlap = int(policy.max_tokens * policy.overlap_percent / 100)

    def pack(self, blocks: Sequence[Block]) -> Iterator[Packed]:
        """What the blocks fill, in order."""
        text = GLUE.join(block.text for block in blocks)
        if not text.strip():
            return
        if estimate(text) <= LIKELY_FILL * self._most:  # nearly always one chunk, and then it is measured once
            size, tokens = self._meter.measure(self._prefix + text)
            if size <= self._most:
                language = self._language_of([(block.kind, block.language, block.text) for block in blocks])
                prose = [block.text for block in blocks if block.kind not in _NO_PROSE]
                yield Packed(
                    text=text,
                    tokens=tokens,
                    prose=text if len(prose) == len(blocks) else GLUE.join(prose),
                    language=language,
                )
                return
        self._prefix_size = self._meter.size(self._prefix) if self._prefix else 0
        for run in self._runs(blocks):
            yield from self._fitted(run)

    def _runs(self, blocks: Sequence[Block]) -> list[list[Piece]]:
        """What goes into each chunk."""
        budget = self._most - self._prefix_size
        runs: list[list[Piece]] = [[]]
        size = 0
        pending = [whole_block(block, self._meter) for block in reversed(blocks)]
        while pending:
            piece = pending.pop()
            run = runs[-1]
            if not run and piece.lead:
                size += self._meter.size(piece.lead)
            if size + piece.size <= budget or (not run and piece.whole is None):
                run.append(piece)
                size += piece.size
                continue
            at = self._boundary(run, piece, budget)
            if at is None:
                pending.extend(reversed(self._cut(piece, self._overlap)))
                continue
            runs[-1:] = [run[:at], [*self._kept(run[:at]), *run[at:]]]
            size = _size(runs[-1])
            pending.append(piece)
        if len(runs) > 1 and size < TAIL_FILL * budget and not self._overlap:
            runs[-2:] = self._balanced([*runs[-2], *runs[-1]])
        return runs

    def _boundary(self, run: Sequence[Piece], following: Piece, budget: int) -> int | None:
        """Where a run that is full ends: before the block with the lowest number of its own, or the sentence.

        The same blocks choose the same boundary, whatever stands before them: so boundaries come back into step after
        an edit. None when there is no place to cut but within `following`.
        """
        before = 0
        places: list[tuple[bool, int, int]] = []
        for at, piece in enumerate([*run, following]):
            if at and before >= LEAST_FILL * budget:
                places.append((not piece.starts_block, number_of(piece.text), -at))  # of equal ones, the last
            before += piece.size
        if following.whole is not None and (not places or min(places)[0]):
            return None
        return -min(places)[2] if places else len(run)

    def _balanced(self, pieces: Sequence[Piece]) -> list[list[Piece]]:
        """Two chunks of about the same size in place of a full one and a crumb."""
        fine = [part for piece in pieces for part in self._cut(piece, 0)]
        half, size, best = _size(fine) / 2, 0, (float("inf"), len(fine))
        for at, piece in enumerate(fine[:-1], 1):
            size += piece.size
            best = min(best, (abs(size - half), at))
        return [run for run in (fine[: best[1]], fine[best[1] :]) if run]

    def _cut(self, piece: Piece, overlap: int) -> list[Piece]:
        """The pieces of a whole block, each with room for the overlap before it; others are never cut."""
        if piece.whole is None:
            return [piece]
        return list(
            pieces_of(piece.whole, self._own(piece.whole), self._most - self._prefix_size - overlap, self._meter)
        )

    def _kept(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The last whole sentences of a chunk that fit into the overlap."""
        if not self._overlap:
            return []
        fine = [part for piece in pieces for part in self._cut(piece, 0)]
        kept: list[Piece] = []
        room = self._overlap
        for piece in reversed(fine):
            room -= piece.size
            if room < 0 or piece.kind not in _SENTENCES:
                break
            kept.insert(0, piece)
        return kept if len(kept) < len(fine) else []

    def _fitted(self, pieces: Sequence[Piece]) -> Iterator[Packed]:
        """The pieces as one text; as several in the rare case that they have more tokens together than one by one."""
        text = _joined(pieces)
        if not text.strip():
            return
        size, tokens = self._measure(pieces, text)
        if size <= self._most:
            prose = [piece for piece in pieces if piece.kind not in _NO_PROSE]
            told = text if len(prose) == len(pieces) else _joined(prose) if prose else ""
            language = self._language_of([(piece.kind, piece.language, piece.text) for piece in pieces])
            yield Packed(text=text, tokens=tokens, prose=told, language=language)
        elif len(pieces) > 1:
            half = len(pieces) // 2
            yield from self._fitted(pieces[:half])
            yield from self._fitted(pieces[half:])
        else:
            piece = pieces[0]
            parts = self._cut(piece, 0)
            if len(parts) > 1:
                yield from self._fitted(parts)
                return
            room = self._meter.size(piece.text) - (size - self._most)
            for part in fitting(piece.text, room, self._meter):
                yield from self._fitted([replace(piece, text=part, whole=None)])

    def _own(self, block: Block) -> str:
        return (block.language if block.kind != "code" else None) or self._language

    def _language_of(self, told: Sequence[tuple[BlockKind, str | None, str]]) -> str:
        letters: Counter[str] = Counter()
        if any(language and kind != "code" for kind, language, _ in told):
            for kind, language, text in told:
                letters[(language if kind != "code" else None) or self._language] += len(text)
        return letters.most_common(1)[0][0] if letters else self._language

    def _measure(self, pieces: Sequence[Piece], text: str) -> tuple[int, int]:
        """(size, tokens) of a chunk. Of whole blocks all but the last were measured as they stand in it."""
        if not self._meter.adds_up_at_line_ends or not all(piece.whole and piece.is_exact for piece in pieces):
            return self._meter.measure(self._prefix + text)
        tokens = (
            self._prefix_size
            + sum(piece.size for piece in pieces[:-1])
            + pieces[-1].size
            - _tokens_after(pieces[-1].text)
        )
        return tokens, tokens


def _tokens_after(text: str) -> int:
    """How many tokens of cl100k_base a blank line adds to a text: it joins the signs at its end, and nothing else."""
    at = len(text)
    while at and not text[at - 1].isalnum() and not text[at - 1].isspace():
        at -= 1
    return _tokens_added(text[at - (text[at - 1 : at] == " ") :])


@lru_cache(maxsize=1_000)
def _tokens_added(signs: str) -> int:
    return count_tokens(signs + GLUE) - count_tokens(signs)


def _size(pieces: Sequence[Piece]) -> int:
    return sum(piece.size for piece in pieces)


def _joined(pieces: Sequence[Piece]) -> str:
    first, *rest = pieces
    return first.lead + first.text + "".join(piece.glue + piece.text for piece in rest)
