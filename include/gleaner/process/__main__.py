"""Reads pages out of files as the DAG would, and says what came of each: for people who tune a site.

    python -m include.gleaner.process PAGE.html[.gz] ...

Prints one JSON object a line: id (the file's name without endings), kind ("content", "refused" or "unreadable"), reason
(why it is not content), title, description, language, word_count, text, sections (path and blocks), facts, metadata.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from include.gleaner.errors import UnreadablePageError
from include.gleaner.models import NotContent
from include.gleaner.process.files import id_of, read_file
from include.gleaner.process.records import document_to_json, text_of


def told_of(path: Path, *, url: str = "", content_type: str = "") -> dict[str, Any]:
    """What is printed of a page. Never raises for what is in the file, or for a file that is not there."""
    told: dict[str, Any] = {"id": id_of(path), "kind": "unreadable", "reason": None, "title": "", "language": "und",
                            "text": "", "sections": []}  # fmt: skip
    try:
        page = read_file(path, url=url, content_type=content_type)
    except UnreadablePageError as error:
        return told | {"reason": str(error)}
    except OSError as error:
        return told | {"reason": f"{path.name} cannot be read: {error.strerror}"}
    if isinstance(page, NotContent):
        return told | {"kind": "refused", "reason": page.reason, "detail": page.detail}
    return told | {"kind": "content", "text": text_of(page), **document_to_json(page)}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every file could be read as a page, else 1."""
    parser = argparse.ArgumentParser(prog="python -m include.gleaner.process", description=__doc__.split("\n")[0])
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE")
    parser.add_argument("--url", default="", help="where the page came from: relative addresses are joined to it")
    parser.add_argument("--content-type", default="", help="what the server said, such as text/plain")
    options = parser.parse_args(arguments)
    fine = True
    for path in options.pages:
        told = told_of(path, url=options.url, content_type=options.content_type)
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
        fine = fine and told["kind"] != "unreadable"
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
