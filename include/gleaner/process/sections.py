"""The section tree: leaves that stay become blocks below their headings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from include.gleaner.models import Block, BlockKind, Section
from include.gleaner.process.leaves import Leaf, LeafKind

_KINDS: Final[dict[LeafKind, BlockKind]] = {
    "heading": "paragraph",
    "paragraph": "paragraph",
    "item": "list",
    "row": "table",
    "code": "code",
    "quote": "quote",
    "term": "definition",
    "definition": "definition",
}


def sections_of(leaves: Sequence[Leaf]) -> tuple[Section, ...]:
    """Sections in reading order; `leaves` are those that are content.

    A heading without text below it, before the next one, is a section without blocks only where it says something that
    no other path says: headings above sections are in their paths already.
    """
    found: list[tuple[tuple[str, ...], list[Block]]] = [((), [])]
    levels: list[int] = []
    run: list[Leaf] = []

    def close_run() -> None:
        if run:
            found[-1][1].append(_block(run))
            run.clear()

    for leaf in leaves:
        if leaf.kind == "heading":
            close_run()
            while levels and levels[-1] >= leaf.level:
                levels.pop()
            path = (*found[-1][0][: len(levels)], " ".join(leaf.text.split()))
            levels.append(leaf.level)
            found.append((path, []))
            continue
        if run and not _continues(run[-1], leaf):
            close_run()
        run.append(leaf)
    close_run()
    return tuple(
        Section(path=path, blocks=tuple(blocks))
        for index, (path, blocks) in enumerate(found)
        if blocks or (path and not _is_parent(path, found[index + 1][0] if index + 1 < len(found) else ()))
    )


def _is_parent(path: tuple[str, ...], following: tuple[str, ...]) -> bool:
    return len(following) > len(path) and following[: len(path)] == path


def _continues(before: Leaf, leaf: Leaf) -> bool:
    return leaf.group != 0 and leaf.group == before.group and _KINDS[leaf.kind] == _KINDS[before.kind]


def _block(run: Sequence[Leaf]) -> Block:
    kind = _KINDS[run[0].kind]
    if kind == "list":
        return Block(kind=kind, text="\n".join(_item(leaf) for leaf in run))
    if kind == "definition":
        return Block(kind=kind, text="\n".join(_definition(leaf) for leaf in run))
    return Block(kind=kind, text="\n".join(leaf.text for leaf in run), language=run[0].language)


def _item(leaf: Leaf) -> str:
    """Nested items are indented by two spaces a level, and what continues an item by one level more."""
    indent = "  " * leaf.level
    return _hang(indent + leaf.marker if leaf.marker else indent + "  ", indent + "  ", leaf.text)


def _definition(leaf: Leaf) -> str:
    if leaf.kind == "term":
        return leaf.text
    return _hang(leaf.marker or "  ", "  ", leaf.text)


def _hang(first: str, others: str, text: str) -> str:
    return first + text.replace("\n", "\n" + others)
