"""docs/runbook.md by its sections."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs/runbook.md").read_text("utf-8")


def sections() -> dict[str, list[tuple[str, str]]]:
    """Heading -> its blocks of code, as (language, text), in the order of the document."""
    found: dict[str, list[tuple[str, str]]] = {}
    for part in re.split(r"^#{1,3} ", TEXT, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        found[heading.strip()] = re.findall(r"^```(\w*)\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
    return found


def typed(language: str) -> list[tuple[str, str]]:
    """Every line of the blocks of a language, with the heading it stands below."""
    return [
        (heading, line)
        for heading, blocks in sections().items()
        for one, text in blocks
        if one == language
        for line in text.splitlines()
    ]


def lines_of(heading: str, words: str) -> list[str]:
    """Of a section the lines for Docker Compose that say this."""
    return [line for section, line in typed("compose") if section == heading and words in line]


def anchor(heading: str) -> str:
    """Of a heading, as a Markdown page has it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
