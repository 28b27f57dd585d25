"""How large a text is, in tokens: by an encoding of tiktoken, and by a model's own tokenizer where it has a limit."""

from __future__ import annotations

import re
from typing import Final

from include.gleaner.chunk.encodings import counter
from include.gleaner.config import DEFAULT_ENCODING
from include.gleaner.models import TokenLimit

LONGEST_RUN: Final = 500  # characters without white space that are still one piece for the tokenizer
_LATIN_CHARACTERS: Final = 4.5  # of a token, on the average
_OTHER_CHARACTERS: Final = 1.5
_GIANT_RUN: Final = re.compile(rf"\S{{{LONGEST_RUN + 1},}}")


def count_tokens(text: str, name: str = DEFAULT_ENCODING) -> int:
    """Number of tokens of `text`. What looks like a control token is text like any other."""
    return counter(name)(text)


def estimate(text: str) -> float:
    """About how many tokens `text` has, without counting them."""
    # Letters beyond ASCII have a byte or two more.
    others = 0.0 if text.isascii() else (len(text.encode("utf-8", "replace")) - len(text)) / 1.3
    return max(len(text) - others, 0.0) / _LATIN_CHARACTERS + others / _OTHER_CHARACTERS


class Meter:
    """Measures texts against a budget of tokens; with a second limit, a size above the budget means above either.

    Sizes are tokens of the encoding, or tokens of the second tokenizer on the scale of the first if that is more.
    """

    def __init__(self, encoding_name: str, most: int, limit: TokenLimit | None = None) -> None:
        self.most = most
        # cl100k_base always divides a text after a line end, whatever comes next.
        self.adds_up_at_line_ends = encoding_name == DEFAULT_ENCODING and limit is None
        self._count = counter(encoding_name)
        self._limit = limit

    def measure(self, text: str) -> tuple[int, int]:
        """(size, tokens) of `text`, exact.

        Not for giant runs without white space, which take the square of their length.
        """
        tokens = self._count(text)
        return (tokens, tokens) if self._limit is None else (max(tokens, self._second(self._limit, text)), tokens)

    def size(self, text: str) -> int:
        """Exact but for giant runs without white space: those are counted in parts, so never too few."""
        if not self.has_giant_run(text):
            return self.measure(text)[0]
        total, at = 0, 0
        for match in _GIANT_RUN.finditer(text):
            total += self.measure(text[at : match.start()])[0]
            for start in range(match.start(), match.end(), LONGEST_RUN):
                total += self.measure(text[start : min(start + LONGEST_RUN, match.end())])[0]
            at = match.end()
        return total + self.measure(text[at:])[0]

    def has_giant_run(self, text: str) -> bool:
        """Whether a run without white space is too long to be measured at once."""
        return len(text) > LONGEST_RUN and _GIANT_RUN.search(text) is not None

    def is_within(self, text: str, budget: int) -> bool:
        """Whether the size is at most `budget`; most often the length tells, since no token is less than a byte."""
        if self._limit is None and (4 * len(text) <= budget or len(text.encode("utf-8", "replace")) <= budget):
            return True
        return self.size(text) <= budget

    def _second(self, limit: TokenLimit, text: str) -> int:
        return -(-limit.count(text) * self.most // limit.most)
