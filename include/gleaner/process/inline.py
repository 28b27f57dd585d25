"""Text of inline content: what is shown, how much of it, and how much of it is links."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from include.gleaner.process import markers
from include.gleaner.process.tree import Node
from include.gleaner.text import display

# Not <head>: where <body> is left out, the parser leaves <main> and <article> in there. What belongs there is here.
SKIPPED: Final = frozenset(
    [
        "script",
        "style",
        "template",
        "svg",
        "iframe",
        "canvas",
        "video",
        "audio",
        "object",
        "embed",
        "applet",
        "select",
        "option",
        "optgroup",
        "datalist",
        "textarea",
        "input",
        "link",
        "meta",
        "map",
        "area",
        "progress",
        "meter",
        "annotation",
        "annotation-xml",
        "param",
        "source",
        "track",
        "title",
        "base",
        "frame",
        "frameset",
        "noframes",
    ]
)
INLINE: Final = frozenset(
    [
        "a",
        "span",
        "b",
        "i",
        "em",
        "strong",
        "u",
        "s",
        "small",
        "big",
        "sub",
        "sup",
        "mark",
        "abbr",
        "cite",
        "code",
        "kbd",
        "samp",
        "var",
        "q",
        "time",
        "font",
        "tt",
        "bdi",
        "bdo",
        "ins",
        "del",
        "strike",
        "wbr",
        "img",
        "data",
        "dfn",
        "acronym",
        "label",
        "ruby",
        "rb",
        "rt",
        "rp",
        "nobr",
        "picture",
        "output",
        "math",
        "mi",
        "mo",
        "mn",
        "mrow",
        "msup",
        "msub",
        "mfrac",
        "mtext",
        "semantics",
        "g-emoji",
    ]
)
LINE_BREAK: Final = "\x1e"  # stands for <br>; decode() leaves no control character in a page

_CHARACTERS_PER_WORD: Final = 12  # in scripts without spaces; high enough never to matter where there are spaces


def weight_of(text: str) -> int:
    """Words of `text`, or what comes near it in scripts that have no spaces."""
    words = len(text.split())
    return words if text.isascii() else max(words, len(text) // _CHARACTERS_PER_WORD)


def clean(text: str) -> str:
    """Display text; line breaks of the page's author are kept as "\\n"."""
    if LINE_BREAK not in text:
        return display(text)
    return "\n".join(line for part in text.split(LINE_BREAK) if (line := display(part)))


class Gatherer:
    """Collects the text nodes of one block."""

    def __init__(self) -> None:
        self.links = 0  # links that are open now
        self.parts: list[str] = []  # since the last `take`
        self._after_break = False
        self._link_weight = 0

    def add(self, text: str) -> None:
        if not self.parts and text.isspace():
            return  # most of what stands between two elements
        if self.links and (weight := weight_of(text)):
            self._link_weight += weight
        if self._after_break and not text.isspace():
            self._after_break = False
        self.parts.append(text)

    def line_break(self, new_block: Callable[[], None]) -> None:
        """One <br> is a line end, a second one begins a new block."""
        if self._after_break:
            new_block()
            self._after_break = False
        elif self.parts:
            self.parts.append(LINE_BREAK)
            self._after_break = True

    def take(self) -> tuple[str, int, int]:
        """(text, weight, weight inside links) since the last call."""
        self._after_break = False
        if not self.parts:
            return "", 0, 0
        text = clean("".join(self.parts))
        links = self._link_weight
        self.parts.clear()
        self._link_weight = 0
        if text.isascii():  # words in display text have one space or line end between them
            return text, text.count(" ") + text.count("\n") + bool(text), links
        return text, weight_of(text), links


def inline_text(root: Node) -> tuple[str, int, int]:
    """(text, weight, weight inside links) of all that is shown inside `root`, blocks set apart by a space."""
    gatherer = Gatherer()
    stack: list[tuple[Iterator[Any], bool]] = [(iter(root.contents), False)]
    while stack:
        children, is_link = stack[-1]
        for node in children:
            if isinstance(node, str):
                gatherer.add(node)
            elif node.name not in SKIPPED:
                if node.name == "br":
                    gatherer.add(" ")
                    continue
                if node.attrs and markers.is_hidden_inline(node):
                    continue
                if node.name not in INLINE:
                    gatherer.add(" ")
                link = node.name == "a" and "href" in node.attrs
                gatherer.links += link
                stack.append((iter(node.contents), link))
                break
        else:
            stack.pop()
            gatherer.links -= is_link
            if is_link is False:
                continue
    return gatherer.take()
