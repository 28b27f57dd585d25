"""One walk over the parse tree: the page as a flat run of leaves, and the containers they stand in.

A leaf is the smallest piece that is kept or dropped whole: a heading, a paragraph, a list item, a table row, a piece of
code. The walk is iterative, so nesting may be as deep as a hostile page likes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from include.gleaner.process import markers
from include.gleaner.process.inline import INLINE, SKIPPED, Gatherer, clean, inline_text
from include.gleaner.process.leaves import Container, Leaf, LeafKind, Outline
from include.gleaner.process.preformatted import are_line_numbers, code_language, code_text
from include.gleaner.process.tables import is_data_table, table_rows
from include.gleaner.process.traits import traits_of
from include.gleaner.process.tree import Node
from include.gleaner.process.unfolding import CALLING, Unfolding, is_on_call

_HEADINGS: Final = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_ROOTS: Final = frozenset(("[document]", "html", "body"))
_DESCRIPTION: Final = re.compile(r"(?:\w+\W+){3}\w")  # four words: less is a name, mostly of a file
_MAX_ALTERNATIVE: Final = 500
_MAX_HEADING: Final = 300  # characters; longer ones are text in the wrong element
_MAX_DECOR: Final = 2_000
_MAX_BUTTON: Final = 300
_MAX_DEPTH: Final = 8  # of list indentation
_PATIENCE: Final = 300_000  # nodes; looking ahead into what is nested in itself would take the square of its depth


@dataclass(slots=True)
class _Context:
    """What text becomes where it stands."""

    kind: LeafKind = "paragraph"
    group: int = 0
    level: int = 0
    marker: str = ""  # used up by the first leaf
    counter: int | None = None  # of an ordered list
    in_list: bool = False


_Before = tuple[int, _Context]  # the container and the context around an element
_LINK: Final[_Before] = (-1, _Context())  # stands for what is around a link: the same as in it


def outline_of(page: Node) -> Outline:
    """The page's leaves in reading order. Never fails: every tree gives an outline, if an empty one."""
    return _Walk(page).outline


class _Walk:
    def __init__(self, page: Node) -> None:
        self.outline = Outline(containers=[Container(parent=-1, flags=0, first=0)])
        self._context = _Context()
        self._container = 0
        self._groups = 0
        self._paths: dict[tuple[int, str, str | None], int] = {}
        self._text = Gatherer()
        self._patience = _PATIENCE
        self._unfolding = Unfolding()
        # What is under way: the children still to come, and what to restore when there are no more.
        self._stack: list[tuple[Iterator[Any], _Before | None, Node]] = [(iter(page.contents), None, page)]
        self._walk()
        self._flush()
        self.outline.containers[0].end = len(self.outline.leaves)
        self._unfolding.show(self.outline)

    def _walk(self) -> None:
        stack, text = self._stack, self._text
        while stack:
            children, leave, _ = stack[-1]
            for node in children:
                if type(node) is str:
                    if text.parts or not node.isspace():  # most of what stands between two elements
                        text.add(node)
                elif self._enter(node):
                    break
            else:
                stack.pop()
                if leave is _LINK:
                    text.links -= 1
                elif leave is not None:
                    self._leave(*leave)

    def _leave(self, container: int, context: _Context) -> None:
        self._flush()
        self.outline.containers[self._container].end = len(self.outline.leaves)
        self._container, self._context = container, context

    def _enter(self, tag: Node) -> bool:
        """Take in an element; True when its children are to be walked next."""
        name = tag.name
        if name in SKIPPED:
            return False
        if tag.attrs and not CALLING.isdisjoint(tag.attrs):
            self._unfolding.note(tag.attrs)
        if name in INLINE:
            return self._enter_inline(tag, name)
        if name == "br":
            self._text.line_break(self._flush)
            return False
        if name == "button" and self._is_short(tag, _MAX_BUTTON) and not _is_question(tag):
            return False
        self._flush()
        if name == "hr" or not tag.contents:
            return False
        flags = markers.of_element(tag)
        if flags & markers.UNSEEN and is_on_call(tag.attrs):
            flags &= ~(markers.UNSEEN | markers.HIDDEN)
        if flags & markers.C_DECOR and self._is_short(tag, _MAX_DECOR):
            return False
        level = _heading_level(tag, name)
        if level and self._is_short(tag, _MAX_HEADING) and self._heading(tag, level, flags):
            return False
        if name == "pre":
            self._code(tag, flags)
            return False
        if name == "table" and is_data_table(tag):
            self._table(tag, flags)
            return False
        before = (self._open(tag, flags), self._context)
        self._context = self._context_in(tag, name)
        self._stack.append((iter(tag.contents), before, tag))
        return True

    def _enter_inline(self, tag: Node, name: str) -> bool:
        attributes = tag.attrs
        if attributes and markers.is_hidden_inline(tag):
            return False
        if name == "img" and not self._text.links and _is_illustration(self._stack[-1][2]):
            self._image(attributes.get("alt") or "")
        if not tag.contents:
            return False
        if name == "a" and "href" in attributes:
            if attributes["href"].startswith("#"):
                self._unfolding.call(attributes["href"][1:])
            self._text.links += 1
            self._stack.append((iter(tag.contents), _LINK, tag))
        else:
            self._stack.append((iter(tag.contents), None, tag))
        return True

    def _is_short(self, tag: Node, limit: int) -> bool:
        """Whether the element's text has at most `limit` characters, white space around its parts not counted."""
        if self._patience <= 0:
            return False
        length = seen = 0
        for seen, node in enumerate(tag.descendants(), 1):
            if type(node) is str:
                length += len(node.strip())
            if length > limit or seen > self._patience:
                self._patience -= seen
                return False
        return True

    def _open(self, tag: Node, flags: int) -> int:
        """Open a container; gives back the one to return to."""
        containers, before = self.outline.containers, self._container
        around = containers[before]
        containers.append(
            Container(
                parent=before,
                flags=flags,
                first=len(self.outline.leaves),
                name=tag.name,
                traits=traits_of(tag),
                depth=around.depth + 1,
                path=self._paths.setdefault((around.path, tag.name, tag.attrs.get("class")), len(self._paths) + 1),
            )
        )
        self._container = len(containers) - 1
        if flags & markers.UNSEEN and (name := tag.attrs.get("id")):
            self._unfolding.hide(self._container, name)
        return before

    def _context_in(self, tag: Node, name: str) -> _Context:
        outer = self._context
        if name in ("ul", "ol", "menu", "dir"):
            level = min(outer.level + 1, _MAX_DEPTH) if outer.in_list else 0
            counter = _number(tag.attrs.get("start"), 1) - 1 if name == "ol" else None
            group = outer.group if outer.in_list else self._group()
            return _Context("item", group, level, "", counter, True)
        if name == "li":
            marker = "- "
            if outer.counter is not None:
                outer.counter = _number(tag.attrs.get("value"), outer.counter + 1)
                marker = f"{outer.counter}. "
            return _Context("item", outer.group if outer.in_list else self._group(), outer.level, marker, None, True)
        if name == "blockquote":
            return _Context("quote", self._group())
        if name == "dt":
            return _Context("term", self._group())
        if name == "dd":
            return _Context("definition", self._groups if outer.kind != "definition" else outer.group, 0, ": ")
        if name in ("td", "th", "figcaption", "caption", "details", "summary"):
            return _Context()
        return outer

    def _group(self) -> int:
        self._groups += 1
        return self._groups

    def _flush(self) -> None:
        text, weight, link_weight = self._text.take()
        if not text:
            return
        context = self._context
        self._leaf(context.kind, text, weight, link_weight, context.group, context.level, context.marker)
        context.marker = ""

    def _leaf(
        self, kind: LeafKind, text: str, weight: int, links: int, group: int = 0, level: int = 0, marker: str = ""
    ) -> Leaf:
        leaf = Leaf(
            kind=kind,
            text=text,
            weight=weight,
            link_weight=min(links, weight),
            container=self._container,
            group=group,
            level=level,
            marker=marker,
        )
        self.outline.leaves.append(leaf)
        return leaf

    def _image(self, alternative: str) -> None:
        text = clean(alternative[:_MAX_ALTERNATIVE])
        if _DESCRIPTION.search(text):
            place = len(self.outline.leaves) + bool(self._text.parts)
            self.outline.images.append(
                Leaf(kind="paragraph", text=text, weight=0, link_weight=0, container=self._container, place=place)
            )

    def _close(self, before: int) -> None:
        self.outline.containers[self._container].end = len(self.outline.leaves)
        self._container = before

    def _heading(self, tag: Node, level: int, flags: int) -> bool:
        text, weight, links = inline_text(tag)
        if len(text) > _MAX_HEADING:
            return False
        if text:
            for part in tag.elements():
                if not CALLING.isdisjoint(part.attrs):
                    self._unfolding.note(part.attrs)
            before = self._open(tag, flags)
            self._leaf("heading", text, weight, weight if self._text.links else links, 0, level)
            self._close(before)
        return True

    def _code(self, tag: Node, flags: int) -> None:
        text = code_text(tag)
        if not text or (are_line_numbers(text) and any(around.name == "td" for _, _, around in self._stack[:-4:-1])):
            return
        before = self._open(tag, flags)
        around = [element for _, _, element in self._stack[:-3:-1] if element.name not in _ROOTS]
        self._leaf("code", text, len(text.split()), 0).language = code_language(tag, around)
        self._close(before)

    def _table(self, tag: Node, flags: int) -> None:
        before = self._open(tag, flags)
        group = self._group()
        for row in table_rows(tag):
            kind: LeafKind = "paragraph" if row.caption else "row"
            self._leaf(kind, row.text, row.weight, row.link_weight, 0 if row.caption else group)
        self._close(before)


def _is_illustration(around: Node) -> bool:
    """Whether an image in this element is content, and nothing else describes it."""
    if around.name == "figure":  # its caption is first or last in it; a gallery has thousands of images between
        ends = around.contents[:20] + around.contents[-20:]
        return not any(isinstance(node, Node) and node.name == "figcaption" for node in ends)
    return around.name == "p"


def _heading_level(tag: Node, name: str) -> int:
    if level := _HEADINGS.get(name, 0):
        return level
    if tag.attrs and tag.attrs.get("role") == "heading":
        return min(max(_number(tag.attrs.get("aria-level"), 2), 1), 6)
    return 0


def _is_question(button: Node) -> bool:
    """Buttons are no text, but those that unfold an answer are its question. Long ones were left open."""
    text = clean(button.text(" "))
    if "aria-controls" not in button.attrs and "aria-expanded" not in button.attrs:
        return False
    return text.endswith(("?", "؟", "？")) or text.count(" ") >= 3


def _number(value: object, default: int) -> int:
    text = str(value or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else default
