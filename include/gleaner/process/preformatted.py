"""Code, letter by letter, and the language it says it is in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

from include.gleaner.process import markers
from include.gleaner.process.tree import Node
from include.gleaner.text import verbatim

_SKIPPED: Final = frozenset(("script", "style", "button", "template", "svg", "input", "select"))
_NUMBERS: Final = frozenset(("ln", "lnt", "line-number", "linenumber", "hljs-ln-numbers"))  # classes inside <pre>
_LINES: Final = frozenset(("div", "p", "li", "tr"))
_LANGUAGE: Final = re.compile(
    r"(?:^|\s)(?:language|lang|highlight|highlight-source|brush:|code|syntax)[-_ ]?([A-Za-z0-9+#]{1,20})\b"
)
_NO_LANGUAGE: Final = frozenset(
    ("default", "none", "highlighter", "text", "plain", "plaintext", "nohighlight", "notranslate", "block", "txt")
)


def code_text(pre: Node) -> str:
    """The text of a <pre>, white space and all, without line numbers, buttons, and empty lines around it."""
    parts: list[str] = []
    stack: list[tuple[Iterator[Any], bool]] = [(iter(pre.contents), False)]
    while stack:
        children, is_line = stack[-1]
        for node in children:
            if isinstance(node, str):
                parts.append(node)
            elif node.name not in _SKIPPED:
                if node.name == "br":
                    parts.append("\n")
                    continue
                value = node.attrs.get("class")
                if value and (
                    value in _NUMBERS or markers.of_names(value[: markers.MOST_REMEMBERED]) & markers.C_DECOR
                ):
                    continue
                if markers.is_hidden(node):
                    continue
                stack.append((iter(node.contents), node.name in _LINES))
                break
        else:
            stack.pop()
            if is_line and parts and not parts[-1].endswith("\n"):
                parts.append("\n")
    lines = verbatim("".join(parts)).split("\n")
    while lines and not lines[0].strip():
        del lines[0]
    while lines and not lines[-1].strip():
        del lines[-1]
    return "\n".join(line.rstrip() for line in lines)


def are_line_numbers(text: str) -> bool:
    """Whether these may be the numbers of the lines of code beside them: one a line, each one more than the last."""
    if not text[:1].isdigit():
        return False
    lines = [line.strip() for line in text.split("\n")]
    numbers = [int(line) if line.isascii() and line.isdigit() and len(line) < 7 else -2 for line in lines]
    return all(after == before + 1 for before, after in pairwise(numbers))


def code_language(pre: Node, around: Sequence[Node] = ()) -> str | None:
    """The language as the page names it, lower case: on the <pre>, the <code> in it, or the elements `around`."""
    tags: list[Node] = [pre]
    inner = next((child for child in pre.contents if isinstance(child, Node)), None)
    if inner is not None and inner.name == "code":
        tags.append(inner)
    for tag in (*tags, *around):
        for name in ("data-lang", "data-language", "data-code-language"):
            if (value := tag.attrs.get(name)) and re.fullmatch(r"[\w+#-]{1,20}", str(value)):
                return str(value).lower()
        for match in _LANGUAGE.finditer(str(tag.attrs.get("class") or "")):
            if (language := match[1].lower()) not in _NO_LANGUAGE:
                return language
    return None
