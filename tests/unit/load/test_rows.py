"""A row's hash is of one JSON text with all its columns: another text would write every row of every tenant again."""

from __future__ import annotations

import hashlib
import json
import sys
import uuid
from dataclasses import replace

import pytest

from include.gleaner.load.rows import _ENCODE, PageRows, Refusal
from include.gleaner.models import Chunk, PageChunks

CHUNK = Chunk(
    chunk_type="faq", chunk_index=3, section_title="Garden > «راهنما»", full_text='Say "yes"\\no\n\t\x1f\x7f\u2028😀/é',
    embedded_text="Garden\n\nSay", search_text="garden say", language="fa", token_count=7, word_count=2, tldr="Say",
    metadata={"page_url": "https://example.com/é", "headings": ["ب", 'a"b'], "data": {"b": 1.5, "a": None}},
)  # fmt: skip


def hash_of(chunk: Chunk, vector: bytes | None) -> bytes:
    page = PageChunks(page_id=uuid.UUID(int=1), generation=1, fingerprint="", chunks=(chunk,), vectors=(vector,))
    refusals: list[Refusal] = []
    rows = PageRows.of(page, "some-model", 1, refusals)
    assert refusals == []
    return rows.rows[0].content_hash


@pytest.mark.parametrize("vector", [None, b"\0\0\x80\x3f"])
@pytest.mark.parametrize("gist", [None, "Garden: say"])
def test_the_hash_is_of_the_columns_as_an_array_of_json(vector: bytes | None, gist: str | None) -> None:
    chunk = replace(CHUNK, embedded_tldr=gist)
    columns = [
        chunk.chunk_type, chunk.chunk_index, "some-model", chunk.section_title, chunk.full_text, chunk.embedded_text,
        chunk.search_text, chunk.tldr, chunk.language, chunk.token_count, chunk.word_count, chunk.metadata,
        vector is not None, gist, False,
    ]  # fmt: skip
    text = json.dumps(columns, ensure_ascii=False, sort_keys=True)
    assert hash_of(chunk, vector) == hashlib.sha256(text.encode()).digest()


def test_no_character_is_written_in_another_way() -> None:
    every = "".join(map(chr, [*range(1, 0xD800), *range(0xE000, sys.maxunicode + 1)]))
    assert _ENCODE(every) == json.dumps(every, ensure_ascii=False).encode()
