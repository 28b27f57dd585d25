"""An OpenAI-compatible embedding endpoint on the loopback, as strict as the real one, with faults on order.

The one thing that the tests do not have for real. Vectors are hashed bags of words, so that texts that share words are
near each other and searching works. `POST /v1/embeddings` is the endpoint; `POST /config`, `GET /stats` and
`POST /reset` are for the tests.

    python -m tests.support.embedding_server --port 0 --latency-ms 50
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self

from tests.support.embedding_answers import answer_to, checked_tokens, digest, kept, parsed, refuse_marked
from tests.support.embedding_faults import API_KEY, Dropped, Faults, RefusalError, Stats, misbehave


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
            return self._texts[digest(text)]

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
            self._texts.update(digest(text) for text in texts)


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
            misbehave(number, faults, self.owner.ended)
            request = parsed(body, self.headers.get("authorization"), self.headers.get("content-type"), faults)
            tokens = checked_tokens(request["input"], self.owner.size)
            refuse_marked(request["input"], faults)
            answer = answer_to(request, tokens, number, faults)
            if number <= faults.trickle_first:
                self._trickle()
            whole = number > max(
                faults.wrong_count_first, faults.repeated_index_first, faults.garbage_first, faults.cut_first
            )
            if whole and not faults.wrong_dimensions:
                self.owner.paid(kept(request["input"], number, faults), tokens)
            status = 200
            if number <= faults.cut_first:
                self._send_half(json.dumps(answer).encode())
            self._send(200, b"<html>busy</html>" if number <= faults.garbage_first else answer)
        except RefusalError as refusal:
            status = refusal.status
            if faults.error_megabytes:
                body = _with_blanks(json.dumps(refusal.body).encode(), faults.error_megabytes)
                self._send(status, body, {**refusal.headers, "content-encoding": "gzip"})
            else:
                self._send(status, refusal.body, refusal.headers)
        except Dropped:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        finally:
            self.owner.end(status)

    def _trickle(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "1000000")
        self.end_headers()
        while not self.owner.ended.wait(0.05):
            self.wfile.write(b" ")
        raise Dropped

    def _send_half(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        raise Dropped

    def _send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _with_blanks(body: bytes, megabytes: int) -> bytes:
    """Gzip of `body` and so many megabytes of blanks, which never are in memory."""
    packed = zlib.compressobj(level=1, wbits=31)
    blocks = [packed.compress(body), *(packed.compress(b" " * (1 << 20)) for _ in range(megabytes))]
    return b"".join([*blocks, packed.flush()])


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
