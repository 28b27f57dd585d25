"""Packs texts into requests, so that one request carries the chunks of many pages. Pure.

Packing in the order of the texts, each request filled until the next text would break a limit: with chunks far smaller
than a request this is within one request of the optimum, and it keeps neighbours together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from include.gleaner.config import EmbedPolicy


@dataclass(frozen=True, kw_only=True)
class Request:
    """Positions of the texts that go into one request, ascending."""

    positions: tuple[int, ...]
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All requests for a sequence of texts, and the texts that no request may carry."""

    requests: tuple[Request, ...]
    refused: Mapping[int, str] = field(default_factory=dict)  # position -> reason


def token_bound(text: str) -> int:
    """No fewer tokens than any byte-level encoding makes of `text`: one for each byte of its UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


def pack(texts: Sequence[str], token_counts: Sequence[int] | None, policy: EmbedPolicy) -> Plan:
    """Divide `texts` into requests within the policy's limits; every position is in one request or in `refused`.

    `token_counts` are tokens by the model's tokenizer, one for each text. Without them the number of bytes stands in,
    which never exceeds a limit by mistake, but packs requests less full; then no text is refused for its length here,
    because its bytes do not prove that it is too long.

    Raises ValueError when there are not as many counts as texts.
    """
    if token_counts is not None and len(token_counts) != len(texts):
        raise ValueError(f"{len(token_counts)} token counts for {len(texts)} texts")
    refused: dict[int, str] = {}
    fitting: list[tuple[int, int]] = []
    longest = min(policy.max_input_tokens, policy.max_request_tokens)
    for position, text in enumerate(texts):
        tokens = token_bound(text) if token_counts is None else token_counts[position]
        if not text.strip():
            refused[position] = "empty text"
        elif token_counts is not None and tokens > longest:
            refused[position] = f"{tokens} tokens, the limit is {longest}"
        else:
            fitting.append((position, min(tokens, longest)))
    return Plan(requests=tuple(_fill(fitting, policy)), refused=refused)


def halves(request: Request) -> tuple[Request, Request]:
    """The request cut in two, to find the input that the endpoint refuses; needs at least two positions.

    The tokens are divided by the number of texts, which is near enough for accounting.
    """
    middle = len(request.positions) // 2
    tokens = request.tokens * middle // len(request.positions)
    return (
        Request(positions=request.positions[:middle], tokens=tokens),
        Request(positions=request.positions[middle:], tokens=request.tokens - tokens),
    )


def _fill(fitting: Sequence[tuple[int, int]], policy: EmbedPolicy) -> Iterator[Request]:
    positions: list[int] = []
    total = 0
    for position, tokens in fitting:
        full = len(positions) >= policy.max_inputs or total + tokens > policy.max_request_tokens
        if positions and full:
            yield Request(positions=tuple(positions), tokens=total)
            positions, total = [], 0
        positions.append(position)
        total += tokens
    if positions:
        yield Request(positions=tuple(positions), tokens=total)
