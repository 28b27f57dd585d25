"""A fast embedding endpoint for measurements, in a process of its own: 50 ms a request and 0.2 ms an input.

python -m benchmarks.endpoint [MILLISECONDS]      prints its port; ends with its standard input

Vectors are taken from a pool of 256 by the text's checksum, as base64 or as lists of numbers. `GET /stats` tells what
was asked; `POST /config` takes {"limit_after": N}: from the N-th request on all are answered with 429, until it is 0.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

DIMENSIONS = 1_536
SECONDS, SECONDS_AN_INPUT = (float(sys.argv[1]) if len(sys.argv) > 1 else 50.0) / 1_000, 0.0002

_pool = np.random.default_rng(0).standard_normal((256, DIMENSIONS)).astype("<f4")
_pool /= np.linalg.norm(_pool, axis=1, keepdims=True)
BASE64 = [json.dumps(base64.b64encode(vector.tobytes()).decode()) for vector in _pool]
NUMBERS = ["[" + ",".join(f"{value:.8g}" for value in vector) + "]" for vector in _pool]

lock = threading.Lock()
stats = {"requests": 0, "inputs": 0, "limited": 0}
config = {"limit_after": 0}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Statistics."""
        self._send(200, json.dumps(stats))

    def do_POST(self) -> None:
        """Embeddings, or what /config changes."""
        data: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/config":
            with lock:
                config.update(data)
                stats.update(dict.fromkeys(stats, 0))
            return self._send(200, "{}")
        inputs = data["input"] if isinstance(data["input"], list) else [data["input"]]
        if inputs and isinstance(inputs[0], int):
            inputs = [inputs]
        with lock:
            limited = 0 < config["limit_after"] <= stats["requests"]
            stats["limited" if limited else "requests"] += 1
            stats["inputs"] += 0 if limited else len(inputs)
        if limited:
            return self._send(429, '{"error": {"message": "Rate limit reached", "type": "requests"}}')
        if len(inputs) > 2_048:
            return self._send(400, '{"error": {"message": "too many inputs"}}')
        time.sleep(SECONDS + SECONDS_AN_INPUT * len(inputs))
        known = BASE64 if data.get("encoding_format") == "base64" else NUMBERS
        items = ",".join(
            f'{{"object":"embedding","index":{at},"embedding":{known[zlib.crc32(str(text).encode()) & 255]}}}'
            for at, text in enumerate(inputs)
        )
        tokens = sum(len(str(text)) for text in inputs) // 4
        usage = f'{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}'
        return self._send(200, f'{{"object":"list","model":"{data["model"]}","usage":{usage},"data":[{items}]}}')

    def _send(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status == 429:
            self.send_header("Retry-After", "300")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
