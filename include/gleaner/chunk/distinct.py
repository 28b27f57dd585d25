"""No chunk of a document says only what another one says. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from include.gleaner.chunk.pieces import GLUE

_MOST_SEARCHES: Final = 200  # of short texts inside longer ones, in one document
_MOST_COMPARED: Final = 1_000  # texts that one is compared with: in a usual document, all that share its rarest block
_SHORT: Final = 300  # characters


def contained(texts: Sequence[str], may_go: Sequence[bool]) -> set[int]:
    """Indices of the texts that stand whole inside another one and may go; of equal texts, all but the first.

    Found by their first block, which then is a block of the other text, and short texts anywhere.
    """
    blocks = [text.split(GLUE) for text in texts]
    places: defaultdict[str, list[int]] = defaultdict(list)  # of each block, the texts that have it
    for index, own in enumerate(blocks):
        for block in dict.fromkeys(own):
            places[block].append(index)

    def is_part(index: int, other: int) -> bool:
        return (len(texts[index]), -index) < (len(texts[other]), -other) and texts[index] in texts[other]

    found: set[int] = set()
    for index, own in enumerate(blocks):
        if may_go[index]:
            # All blocks but the last are blocks of the other text; the last may be the beginning of one.
            others = min((places[block] for block in own[:-1] or own), key=len)
            if any(is_part(index, other) and own[0] in blocks[other] for other in others[:_MOST_COMPARED]):
                found.add(index)
    everything = "\0".join(texts)
    short = [index for index, text in enumerate(texts) if may_go[index] and len(text) <= _SHORT]
    for index in short[:_MOST_SEARCHES]:
        if everything.count(texts[index]) > 1 and any(is_part(index, other) for other in range(len(texts))):
            found.add(index)
    return found
