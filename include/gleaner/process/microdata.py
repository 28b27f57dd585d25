"""Microdata (itemscope, itemprop) as the records that JSON-LD would be: https://html.spec.whatwg.org/multipage/microdata.html.

`itemref`, by which an item takes in properties from elsewhere on the page, is not followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from include.gleaner.process.outline import outline_of
from include.gleaner.process.sections import sections_of
from include.gleaner.process.tree import Node, Page

_MAX_ITEMS: Final = 500  # of a page, nested ones included
_MAX_ELEMENTS: Final = 50_000  # looked at, over all items
_MAX_DEPTH: Final = 8  # of items in items
_MAX_TEXTS: Final = 8  # of properties in properties: each one's text holds that of those inside
_VALUES: Final = {  # which attribute of an element is its value
    "a": "href", "area": "href", "link": "href", "img": "src", "iframe": "src", "embed": "src", "source": "src",
    "audio": "src", "video": "src", "track": "src", "object": "data", "data": "value", "meter": "value",
}  # fmt: skip


def items_of(page: Page) -> list[Mapping[str, Any]]:
    """The page's items that are no property of another one, in its order. A property is a value, or a list of them."""
    budget = _Budget()
    return [_item(node, budget, 0) for node in page.items[:_MAX_ITEMS] if budget.items > 0]


class _Budget:
    def __init__(self) -> None:
        self.items = _MAX_ITEMS
        self.elements = _MAX_ELEMENTS


def _item(node: Node, budget: _Budget, depth: int) -> Mapping[str, Any]:
    budget.items -= 1
    found: dict[str, list[Any]] = {}
    for part in _properties(node, budget):
        is_item = "itemscope" in part.attrs
        if is_item and (budget.items <= 0 or depth >= _MAX_DEPTH):
            continue
        value = _item(part, budget, depth + 1) if is_item else _value(part)
        for name in part.attrs["itemprop"].split()[:5]:
            found.setdefault(name, []).append(value)
    kinds = node.attrs.get("itemtype", "").split()[:5]
    record: dict[str, Any] = {name: values[0] if len(values) == 1 else values for name, values in found.items()}
    return {**record, "@type": kinds}


def _properties(item: Node, budget: _Budget) -> Iterator[Node]:
    """The elements inside that are properties of this item, and not of another one inside it."""
    stack = [(iter(item.contents), False)]
    texts = 0  # properties around
    while stack:
        children, is_text = stack[-1]
        for node in children:
            if not isinstance(node, Node):
                continue
            budget.elements -= 1
            if budget.elements < 0:
                return
            is_property = "itemprop" in node.attrs
            if is_property and texts < _MAX_TEXTS:
                yield node
            if node.contents and "itemscope" not in node.attrs:
                stack.append((iter(node.contents), is_property))
                texts += is_property
                break
        else:
            stack.pop()
            texts -= is_text


def _value(node: Node) -> str:
    if "content" in node.attrs:  # of <meta>, and by common use of any element
        return node.attrs["content"]
    if node.name == "time" and "datetime" in node.attrs:
        return node.attrs["datetime"]
    if (name := _VALUES.get(node.name)) and name in node.attrs:
        return node.attrs[name]
    return shown_text(node)


def shown_text(node: Node) -> str:
    """What is read inside an element: lists stay lists, paragraphs paragraphs."""
    return "\n".join(block.text for section in sections_of(outline_of(node).leaves) for block in section.blocks)
