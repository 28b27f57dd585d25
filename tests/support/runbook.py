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


def anchor(heading: str) -> str:
    """Of a heading, as a Markdown page has it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
