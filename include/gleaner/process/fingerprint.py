"""Identity of a document: the same content gives the same hash, anything else another."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgspec

from include.gleaner.models import Document
from include.gleaner.process.records import document_to_json


def with_fingerprint(document: Document) -> Document:
    """`document` with its content_hash: SHA-256 over everything else, as canonical JSON."""
    return replace(document, content_hash=fingerprint_of(document))


def fingerprint_of(document: Document) -> bytes:
    """SHA-256 over every field but the hash itself."""
    record = document_to_json(document)
    del record["content_hash"]
    return hashlib.sha256(msgspec.json.encode(record, order="sorted")).digest()
