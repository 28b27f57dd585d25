"""Identity of a document: the same content gives the same hash, anything else another."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from include.gleaner.models import Document
from include.gleaner.process.records import document_to_json


def with_fingerprint(document: Document) -> Document:
    """`document` with its content_hash: SHA-256 over everything else, as canonical JSON."""
    return replace(document, content_hash=fingerprint_of(document))


def fingerprint_of(document: Document) -> bytes:
    """SHA-256 over every field but the hash itself."""
    record = document_to_json(document)
    del record["content_hash"]
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).digest()
