"""No chunk of a document says only what another one says. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from include.gleaner.chunk.pieces import GLUE

_MOST_SEARCHES: Final = 200  # of short texts inside longer ones, in one document
_SHORT: Final = 300  # characters


def contained(texts: Sequence[str], may_go: Sequence[bool]) -> set[int]:
    """Indices of the texts that stand whole inside another one and may go; of equal texts, all but the first.

    Found by their first block, which then is a block of the other text, and short texts anywhere.
    """
    blocks = [text.split(GLUE) for text in texts]
    probes: defaultdict[str, list[int]] = defaultdict(list)
    for index, own in enumerate(blocks):
        if may_go[index]:
            probes[own[0]].append(index)
    pairs = [(index, other) for other, own in enumerate(blocks) for block in own for index in probes.get(block, ())]
    everything = "\0".join(texts)
    short = [index for index, text in enumerate(texts) if may_go[index] and len(text) <= _SHORT]
    for index in short[:_MOST_SEARCHES]:
        if everything.count(texts[index]) > 1:
            pairs += [(index, other) for other in range(len(texts))]
    return {
        index
        for index, other in pairs
        if (len(texts[index]), -index) < (len(texts[other]), -other) and texts[index] in texts[other]
    }
