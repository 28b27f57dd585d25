"""An encoding other than the default, with the ranks that OpenAI publishes, seeded as its users would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from include.gleaner.chunk.encodings import counter
from include.gleaner.chunk.splitter import split
from include.gleaner.config import ChunkPolicy
from include.gleaner.models import Block, Document, Section
from tests.support.wheels import fetch_wheel

CARRIER = "llama-index-core==0.14.25"  # has the file inside


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wheel = fetch_wheel(CARRIER, tmp_path_factory.mktemp("carrier"))
    return wheel / "llama_index" / "core" / "_static" / "tiktoken_cache"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    counter.cache_clear()
    yield
    counter.cache_clear()


def test_chunks_by_o200k(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    text = "این کتاب‌خانه هر روز از ساعت هشت باز است و کسی را بی‌پاسخ نمی‌گذارد. " * 60
    section = Section(path=("راهنما",), blocks=(Block(kind="paragraph", text=text.strip()),))
    document = Document(title="راهنما", language="fa", sections=(section,))
    chunks = split(document, ChunkPolicy(encoding="o200k_base"), "")
    count = counter("o200k_base")
    assert [chunk.token_count for chunk in chunks] == [count(chunk.embedded_text) for chunk in chunks]
    assert max(chunk.token_count for chunk in chunks) <= 500
    assert len(chunks) < len(split(document, ChunkPolicy(), ""))  # Persian takes less than half as many of its tokens
