"""Counts tokens by the encodings of tiktoken, by their names, without the network.

The vocabulary of cl100k_base comes inside toktok, which counts as tiktoken does and ten times as fast. For the others
tiktoken would fetch the ranks when an encoding is first used. Here they have to be there already, in the folder that
TIKTOKEN_CACHE_DIR names, where tiktoken puts them on a machine with a network; they are accepted only when they are,
byte for byte, what OpenAI publishes.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import toktok

from include.gleaner.config import DEFAULT_ENCODING, ENCODINGS
from include.gleaner.errors import SetupError

RANKS_SHA256: Final = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "p50k_base": "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
    "r50k_base": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
}
# Encodings with the ranks of another one: they differ in control tokens, which are text here, or in nothing.
_SAME_RANKS: Final = {"o200k_harmony": "o200k_base", "p50k_edit": "p50k_base", "gpt2": "r50k_base"}
_PUBLISHED: Final = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"  # never asked: it names the file


@cache
def counter(name: str) -> Callable[[str], int]:
    """Counts the tokens of a text; what looks like a control token is text like any other.

    The first call takes .1 to .3 s. Raises SetupError when the encoding's ranks are not there or not the real ones.
    """
    if name == DEFAULT_ENCODING:
        _of_default("")  # loads the vocabulary
        return _of_default
    name = _SAME_RANKS.get(name, name)
    if name not in RANKS_SHA256:
        raise SetupError(f"there is no encoding {name!r}; there are {', '.join(ENCODINGS)}")
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", "")
    path = Path(folder) / hashlib.sha1(_PUBLISHED.format(name).encode(), usedforsecurity=False).hexdigest()
    if not folder or not path.is_file():
        raise SetupError(
            f"the encoding {name} needs its ranks in a folder: where there is a network, run\n"
            f"TIKTOKEN_CACHE_DIR=FOLDER python -c \"import tiktoken; tiktoken.get_encoding('{name}')\"\n"
            "and set TIKTOKEN_CACHE_DIR to a copy of that folder"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != RANKS_SHA256[name]:
        raise SetupError(f"the file with the ranks of {name} is not the one that OpenAI publishes; replace it")
    import tiktoken

    encode = tiktoken.get_encoding(name).encode_ordinary
    return lambda text: len(encode(text))


def _of_default(text: str) -> int:
    try:
        # It counts the whole text whatever is to be left of it, and copies nothing when that is all.
        total: int = toktok.truncate(text, sys.maxsize, DEFAULT_ENCODING)[1]
    except UnicodeEncodeError:  # a lone surrogate, which tiktoken takes for U+FFFD
        return _of_default(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return total
