"""A page's chunks as rows of tenant_knowledge, checked and hashed before anything is sent."""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import msgspec

from include.gleaner.errors import InvalidChunkError
from include.gleaner.load import copy_binary
from include.gleaner.load.validate import check_chunk, check_vector
from include.gleaner.models import Chunk, PageChunks

_ENCODE: Final = msgspec.json.Encoder().encode  # of texts and numbers: what json gives, in a third of the time


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A chunk, or a whole page when `item` is empty, that could not be stored."""

    page_id: uuid.UUID
    item: str  # "website/3", or "" for the page
    reason: str


def text_hash(chunk: Chunk) -> bytes:
    """SHA-256 of what is embedded: equal hash and model, equal vector."""
    return _hash(chunk.embedded_text)


def tldr_hash(chunk: Chunk) -> bytes | None:
    """The same of the chunk's gist; None when it gets no vector."""
    return None if chunk.embedded_tldr is None else _hash(chunk.embedded_tldr)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A chunk, ready to be copied."""

    item: str  # "website/3"
    fields: tuple[copy_binary.Field, ...]
    content_hash: bytes
    hashes: tuple[bytes, ...]  # of the texts whose vectors it has


@dataclass(frozen=True, kw_only=True)
class PageRows:
    """A page's chunks as rows, with the hash that says whether anything changed."""

    page: PageChunks
    rows: tuple[Row, ...]

    @cached_property
    def set_hash(self) -> bytes:
        return hashlib.sha256(b"".join(row.content_hash for row in self.rows)).digest()

    def without(self, rows: Container[Row]) -> PageRows:
        return replace(self, rows=tuple(row for row in self.rows if row not in rows))

    @property
    def identity(self) -> tuple[int, str, bytes]:
        return self.page.generation, self.page.fingerprint, self.set_hash

    @classmethod
    def of(cls, page: PageChunks, model: str, dimensions: int, refusals: list[Refusal]) -> PageRows:
        rows: list[Row] = []
        for chunk, vector, gist in _valid(page, dimensions, refusals):
            try:
                rows.append(_row(page.page_id, chunk, model, vector, gist))
            except (ValueError, TypeError, RecursionError, struct.error) as error:
                reason = f"cannot be written: {type(error).__name__}"
                refusals.append(Refusal(page_id=page.page_id, item=_item(chunk), reason=reason))
        return cls(page=page, rows=tuple(rows))


def _valid(
    page: PageChunks, dimensions: int, refusals: list[Refusal]
) -> Iterator[tuple[Chunk, bytes | None, bytes | None]]:
    """The chunks that can be stored, ordered by key, each key once; a bad vector costs only itself."""
    seen: set[tuple[str, int]] = set()
    gists = page.tldr_vectors or (None,) * len(page.chunks)
    found = zip(page.chunks, page.vectors, gists, strict=True)
    for chunk, vector, gist in sorted(found, key=lambda item: (item[0].chunk_type, item[0].chunk_index)):
        item = _item(chunk)
        try:
            check_chunk(chunk)
            if (chunk.chunk_type, chunk.chunk_index) in seen:
                raise InvalidChunkError("two chunks of the page have this type and index")
        except InvalidChunkError as error:
            refusals.append(Refusal(page_id=page.page_id, item=item, reason=str(error)))
            continue
        seen.add((chunk.chunk_type, chunk.chunk_index))
        checked: list[bytes | None] = []
        for value in (vector, gist):
            try:
                if value is not None:
                    check_vector(value, dimensions)
            except InvalidChunkError as error:
                refusals.append(Refusal(page_id=page.page_id, item=item, reason=str(error)))
                value = None
            checked.append(value)
        yield chunk, checked[0], checked[1]


def _item(chunk: Chunk) -> str:
    return f"{chunk.chunk_type}/{chunk.chunk_index}"


def _content_hash(chunk: Chunk, metadata: bytes, model: str, has_vector: bool, has_gist: bool) -> bytes:
    """SHA-256 over every stored column of the row, the model, and which vectors there are."""
    before = (
        chunk.chunk_type,
        chunk.chunk_index,
        model,
        chunk.section_title,
        chunk.full_text,
        chunk.embedded_text,
        chunk.search_text,
        chunk.tldr,
        chunk.language,
        chunk.token_count,
        chunk.word_count,
    )
    after = (has_vector, chunk.embedded_tldr, has_gist)
    columns = (*map(_ENCODE, before), metadata, *map(_ENCODE, after))
    return hashlib.sha256(b"[%b]" % b", ".join(columns)).digest()  # one array of JSON


def _row(page_id: uuid.UUID, chunk: Chunk, model: str, vector: bytes | None, gist: bytes | None) -> Row:
    """The chunk with the columns of `copy_staging`, in its order."""
    metadata = copy_binary.canonical(chunk.metadata)
    content_hash = _content_hash(chunk, metadata, model, vector is not None, gist is not None)
    text_key, gist_key = text_hash(chunk), tldr_hash(chunk)
    fields = (
        copy_binary.uuid_(page_id),
        copy_binary.text(chunk.chunk_type),
        copy_binary.integer(chunk.chunk_index),
        copy_binary.text(chunk.section_title),
        copy_binary.text(chunk.full_text),
        copy_binary.text(chunk.tldr),
        copy_binary.text(chunk.language),
        copy_binary.integer(chunk.token_count),
        copy_binary.integer(chunk.word_count),
        text_key,
        content_hash,
        copy_binary.vector(vector),
        copy_binary.text(chunk.search_text),
        copy_binary.jsonb(metadata),
        gist_key,
        copy_binary.vector(gist),
    )
    paid = ((text_key, vector), (gist_key, gist))
    hashes = tuple(key for key, value in paid if key is not None and value is not None)
    return Row(item=_item(chunk), fields=fields, content_hash=content_hash, hashes=hashes)
