"""Reads pages out of files and cuts them as the DAG would: for people who tune a site.

    python -m include.gleaner.chunk PAGE.html[.gz] ...

Prints one JSON object a line for each chunk: id (the file's name without endings), type, index, section_title, text,
embedded_text, token_count, word_count, language. A page that is not content gives no line; why is on standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from include.gleaner.chunk.splitter import split
from include.gleaner.config import ENCODINGS, ChunkPolicy
from include.gleaner.errors import UnreadablePageError
from include.gleaner.models import Document, NotContent
from include.gleaner.process.files import id_of, read_file


def told_of(path: Path, document: Document, policy: ChunkPolicy, url: str = "") -> Iterator[dict[str, Any]]:
    """What is printed of each chunk of a document."""
    for chunk in split(document, policy, url):
        yield {
            "id": id_of(path),
            "type": chunk.chunk_type,
            "index": chunk.chunk_index,
            "section_title": chunk.section_title,
            "text": chunk.full_text,
            "embedded_text": chunk.embedded_text,
            "token_count": chunk.token_count,
            "word_count": chunk.word_count,
            "language": chunk.language,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every file could be read as a page, else 1."""
    default = ChunkPolicy()
    parser = argparse.ArgumentParser(prog="python -m include.gleaner.chunk", description=__doc__.split("\n")[0])
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE")
    parser.add_argument("--url", default="", help="where the page came from")
    parser.add_argument("--tokens", type=int, default=default.max_tokens, help="at most, in a chunk (%(default)s)")
    parser.add_argument("--overlap", type=int, default=default.overlap_percent, help="per cent (%(default)s)")
    parser.add_argument("--encoding", default=default.encoding, choices=ENCODINGS, help="(%(default)s)")
    options = parser.parse_args(arguments)
    if not (64 <= options.tokens <= 2_000 and 0 <= options.overlap <= 25):
        parser.error("a chunk has 64 to 2,000 tokens, and 0 to 25 per cent of overlap")
    policy = ChunkPolicy(max_tokens=options.tokens, overlap_percent=options.overlap, encoding=options.encoding)
    fine = True
    for path in options.pages:
        try:
            page = read_file(path, url=options.url)
        except (UnreadablePageError, OSError) as error:
            sys.stderr.write(f"{path.name}: {error.strerror if isinstance(error, OSError) else error}\n")
            fine = False
            continue
        if isinstance(page, NotContent):
            sys.stderr.write(f"{path.name}: no content, {page.reason}\n")
            continue
        for told in told_of(path, page, policy, options.url):
            sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
