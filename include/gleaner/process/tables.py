"""Tables as Markdown rows. Tables that only lay out the page are no tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from include.gleaner.process.inline import inline_text
from include.gleaner.process.markers import is_hidden
from include.gleaner.process.tree import Node

_NO_DATA: Final = frozenset(("table", "pre", "h1", "h2", "h3", "h4", "form", "article", "section", "main", "nav"))
_MAX_SPAN: Final = 50
_MAX_REPEATED: Final = 100_000  # characters of a table that stand in it once and are told in several places
_SEPARATOR: Final = 3  # characters between two cells
_MAX_CELL: Final = 2_000  # characters of markup-free text; a cell with more holds a page, not a value


@dataclass(frozen=True, slots=True)
class Row:
    text: str
    weight: int = 0
    link_weight: int = 0
    caption: bool = False


def is_data_table(table: Node) -> bool:
    """Whether the table relates values by row and column: two or more columns, and only text in its cells."""
    if table.attrs.get("role") in ("presentation", "none"):
        return False
    if any(node.name in _NO_DATA for node in table.elements()):
        return False
    rows = list(_rows(table))
    if max((len(cells) for _, cells in rows), default=0) < 2:
        return False
    return all(len(text) <= _MAX_CELL for _, cells in rows for cell in cells for text in [cell.text()])


def table_rows(table: Node) -> Iterator[Row]:
    """The caption, then the rows; a header row is followed by the row of dashes that Markdown wants."""
    caption = next((node for node in table.contents if isinstance(node, Node) and node.name == "caption"), None)
    if caption is not None and (gathered := inline_text(caption))[0]:
        yield Row(*gathered, caption=True)
    spans = _Spans()
    first = True
    for in_head, cells in _rows(table):
        values, weight, links = spans.values(cells)
        if not any(values):
            continue
        yield Row(f"| {' | '.join(values)} |", weight, links)
        if first and len(values) > 1 and (in_head or all(cell.name == "th" for cell in cells)):
            yield Row(f"| {' | '.join('---' for _ in values)} |")
        first = False


class _Spans:
    """The cells that cover several columns or rows.

    One that covers several rows is repeated in each: a row has to make sense alone. What is repeated is bounded, so
    that a small page does not become a huge text.
    """

    def __init__(self) -> None:
        self._hanging: dict[int, tuple[int, str]] = {}  # column -> (rows it still covers, text)
        self._left = _MAX_REPEATED

    def values(self, cells: list[Node]) -> tuple[list[str], int, int]:
        """(texts of a row's columns, weight, weight inside links)."""
        values: list[str] = []
        weight = links = 0
        for cell in cells:
            self._take_hanging(values)
            text, cell_weight, cell_links = inline_text(cell)
            weight += cell_weight
            links += cell_links
            text = text.replace("|", "\\|")
            rows = _span(cell, "rowspan") - 1
            for column in range(_span(cell, "colspan")):
                if column and not self._may_add(""):
                    break
                if rows:
                    self._hanging[len(values)] = (rows, "" if column else text)
                values.append("" if column else text)
        self._take_hanging(values)
        return values, weight, links

    def _take_hanging(self, values: list[str]) -> None:
        while len(values) in self._hanging:
            rows, text = self._hanging.pop(len(values))
            if not self._may_add(text):
                return
            if rows > 1:
                self._hanging[len(values)] = (rows - 1, text)
            values.append(text)

    def _may_add(self, text: str) -> bool:
        self._left -= len(text) + _SEPARATOR
        return self._left > 0


def _rows(table: Node) -> Iterator[tuple[bool, list[Node]]]:
    """(is in <thead>, cells) per row, however the rows are wrapped; not those of tables inside."""
    stack: list[tuple[Iterator[Any], bool]] = [(iter(table.contents), False)]
    while stack:
        children, in_head = stack[-1]
        for node in children:
            if isinstance(node, str) or is_hidden(node):
                continue
            if node.name == "tr":
                yield in_head, [cell for cell in node.contents if isinstance(cell, Node) and _is_cell(cell)]
            elif node.name in ("thead", "tbody", "tfoot"):
                stack.append((iter(node.contents), node.name == "thead"))
                break
        else:
            stack.pop()


def _is_cell(node: Node) -> bool:
    return node.name in ("td", "th") and not is_hidden(node)


def _span(cell: Node, name: str) -> int:
    text = str(cell.attrs.get(name) or "").strip()
    return min(max(int(text), 1), _MAX_SPAN) if text.isascii() and text.isdigit() and len(text) < 7 else 1
