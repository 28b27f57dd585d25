"""The page as a tree: one parse, as light as it can be, and of any depth.

libxml2 tells of each element and each run of text, and this module strings them together. A tree by libxml2 itself ends
at some thousand levels; one by Beautiful Soup costs ten times as much as all that is done with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from lxml import etree

from include.gleaner.errors import UnreadablePageError

MAX_ELEMENTS: Final = 300_000  # of one page; a tree of so many takes some hundred MB
_TELLING: Final = frozenset(("html", "title", "meta", "link", "script", "h1"))
_PIECE: Final = 1 << 18  # bytes that are given to the parser at once
_MOST_SEARCHED: Final = 2 * 10**9  # elements; for an end tag without a beginning the parser looks at all that are open
_DROPPED: Final = frozenset(
    ("style", "template")
)  # their text is never read; that of scripts is, for what they publish


_NO_ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType({})  # lxml's own for none is slow to ask


class Node:
    """An element: its name, its attributes, and what stands in it, texts and elements in their order.

    It does not know what it stands in: a tree without circles is gone as soon as nobody needs it.
    """

    __slots__ = ("attrs", "contents", "name")

    def __init__(self, name: str, attrs: Mapping[str, str]) -> None:
        self.name = name
        self.attrs = attrs
        self.contents: list[str | Node] = []

    def descendants(self) -> Iterator[str | Node]:
        """Everything inside, in document order; for elements as deep as a hostile page likes."""
        stack = [iter(self.contents)]
        while stack:
            for item in stack[-1]:
                yield item
                if isinstance(item, Node) and item.contents:
                    stack.append(iter(item.contents))
                    break
            else:
                stack.pop()

    def elements(self) -> Iterator[Node]:
        """The elements among the descendants."""
        for item in self.descendants():
            if isinstance(item, Node):
                yield item

    def text(self, separator: str = "") -> str:
        """All text inside, as it stands, but that of scripts in it."""
        texts: list[str] = []
        stack = [iter(self.contents)]
        while stack:
            for item in stack[-1]:
                if isinstance(item, str):
                    texts.append(item)
                elif item.contents and item.name != "script":
                    stack.append(iter(item.contents))
                    break
            else:
                stack.pop()
        return separator.join(texts)


class Page(Node):
    """The root of a page: what stands in it is the document."""

    __slots__ = ("items", "telling")

    def __init__(self) -> None:
        super().__init__("[document]", {})
        self.items: list[Node] = []  # of microdata, those that are no property of another one
        self.telling: list[Node] = []  # the elements that say something about the page, wherever they stand


def parse(text: str) -> Page:
    """The page. Text without markup is a paragraph.

    Raises UnreadablePageError for what the parser refuses altogether, and for more than 300,000 elements.
    """
    builder = _Builder()
    parser = etree.HTMLParser(target=builder, encoding="utf-8", huge_tree=True)  # type: ignore[arg-type]
    encoded = text.encode("utf-8", "replace")
    try:
        searched = 0
        for start in range(0, len(encoded), _PIECE):
            piece, closed = encoded[start : start + _PIECE], builder.closed
            parser.feed(piece)
            searched += builder.depth * max(piece.count(b"</") - (builder.closed - closed), 0)
            if searched > _MOST_SEARCHED:
                raise UnreadablePageError("the page closes what it never opened, over and over and deep inside")
            if builder.count > MAX_ELEMENTS:
                raise UnreadablePageError(f"the page has more than {MAX_ELEMENTS:,} elements, which is no text")
        if encoded.strip():
            parser.close()
    except etree.LxmlError as error:
        if not builder.root.contents:
            raise UnreadablePageError("the parser rejects the page's markup; check what the server sends") from error
    return builder.release()


class _Builder:
    """A target of lxml's parser."""

    def __init__(self) -> None:
        self.root = Page()
        self.count = 0
        self._open: list[Node] = [self.root]
        self._texts: list[str] = []
        self.data = self._texts.append  # called by the parser, maybe several times for one text

    @property
    def depth(self) -> int:
        """How many elements are open."""
        return len(self._open) - 1

    @property
    def closed(self) -> int:
        """How many are not any more."""
        return self.count - self.depth

    def start(self, name: str, attrs: Mapping[str, str]) -> None:
        """Called by the parser."""
        if self._texts:
            self._flush()
        self.count += 1
        around = self._open[-1]
        node = Node(name, attrs or _NO_ATTRIBUTES)
        around.contents.append(node)
        self._open.append(node)
        if name in _TELLING:
            if around.name != "svg":  # pictures have titles, too
                self.root.telling.append(node)
        elif not attrs:
            return
        elif "itemprop" in attrs and around.name != "svg":
            self.root.telling.append(node)
        if "itemscope" in attrs and "itemprop" not in attrs:
            self.root.items.append(node)

    def end(self, _: str) -> None:
        """Called by the parser, which closes what it opened and in the right order."""
        if self._texts:
            self._flush()
        if len(self._open) > 1:
            self._open.pop()

    def close(self) -> Page:
        """Called by the parser."""
        if self._texts:
            self._flush()
        return self.root

    def release(self) -> Page:
        """The page, of which nothing stays here: lxml's parser is in a circle with its target, the tree need not be."""
        root, self.root, self._open = self.root, Page(), []
        return root

    def _flush(self) -> None:
        texts = self._texts
        if (node := self._open[-1]).name not in _DROPPED:
            node.contents.append(texts[0] if len(texts) == 1 else "".join(texts))
        texts.clear()
