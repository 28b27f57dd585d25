"""Pages out of files, for people who tune a site."""

from __future__ import annotations

import gzip
import uuid
import zlib
from pathlib import Path
from typing import Final

from include.gleaner.errors import UnreadablePageError
from include.gleaner.models import Document, NotContent, Snapshot
from include.gleaner.process.document import read_document

MAX_BYTES: Final = 50 * 1024 * 1024  # of a page, decompressed
_ENDINGS: Final = frozenset((".gz", ".html", ".htm", ".xhtml", ".txt"))


def id_of(path: Path) -> str:
    """The file's name without its endings: "0042" of "0042.html.gz"."""
    while path.suffix.lower() in _ENDINGS:
        path = path.with_suffix("")
    return path.name


def read_file(path: Path, *, url: str = "", content_type: str = "") -> Document | NotContent:
    """The page in a file, which may be gzipped, as the process stage reads it.

    `url` is where it came from, `content_type` what the server said; both may be unknown. Raises UnreadablePageError
    for bytes that are no page, and OSError for a file that cannot be read.
    """
    body = path.read_bytes()
    if body.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path) as unpacked:
                body = unpacked.read(MAX_BYTES + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UnreadablePageError(f"{path.name} is damaged: it ends too early, or is no gzip") from error
    if len(body) > MAX_BYTES:
        raise UnreadablePageError(f"{path.name} has more than {MAX_BYTES:,} bytes")
    if not content_type and ".txt" in path.suffixes:
        content_type = "text/plain"
    return read_document(
        Snapshot(page_id=uuid.UUID(int=0), url=url, generation=0, body=body, content_type=content_type)
    )
