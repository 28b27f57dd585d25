"""The endpoint of the tests is as strict as the real one: what it lets pass, the real one lets pass."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.embedding_answers import vector_of
from tests.support.embedding_server import API_KEY, EmbeddingServer

GOOD = {"model": "text-embedding-3-small", "input": ["hello"]}


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as running:
        yield running


def post(url: str, body: bytes, key: str | None = API_KEY) -> tuple[int, dict[str, Any]]:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GOOD, 200),
        ({**GOOD, "input": "one text"}, 200),
        ({**GOOD, "dimensions": 256, "encoding_format": "base64"}, 200),
        ({**GOOD, "input": ["hello"] * 2_048}, 200),
        ({**GOOD, "input": ["hello"] * 2_049}, 400),
        ({**GOOD, "input": ["hello " * 8_000]}, 200),
        ({**GOOD, "input": ["hello " * 8_192]}, 400),
        ({**GOOD, "input": ["hello " * 8_000] * 38}, 400),  # 304,000 tokens
        ({**GOOD, "input": ["hello", ""]}, 400),
        ({**GOOD, "input": []}, 400),
        ({**GOOD, "input": [7.5]}, 400),
        ({**GOOD, "input": None}, 400),
        ({**GOOD, "encoding_format": "hex"}, 400),
        ({**GOOD, "dimensions": 0}, 400),
        ({**GOOD, "dimensions": 1_537}, 400),
        ({**GOOD, "dimensions": "64"}, 400),
        ({**GOOD, "surprise": 1}, 400),
        ({**GOOD, "model": "text-embedding-ada-002", "dimensions": 64}, 400),
        ({**GOOD, "model": "unknown"}, 404),
        ({"input": ["hello"]}, 400),
        ([], 400),
    ],
    ids=lambda value: str(value)[:60],
)
def test_limits_and_types(server: EmbeddingServer, request_: object, status: int) -> None:
    answered, body = post(f"{server.url}/embeddings", json.dumps(request_).encode())
    assert answered == status
    if status == 200:
        assert sorted(body) == ["data", "model", "object", "usage"]
    else:
        assert sorted(body["error"]) == ["code", "message", "param", "type"]


def test_keys_and_bodies(server: EmbeddingServer) -> None:
    good = json.dumps(GOOD).encode()
    assert post(f"{server.url}/embeddings", good, key=None)[0] == 401
    assert post(f"{server.url}/embeddings", good, key="sk-other")[0] == 401
    assert post(f"{server.url}/embeddings", b"{")[0] == 400
    assert post(f"{server.url}/embeddings", b"\xff")[0] == 400


def test_vectors_are_the_same_everywhere_and_near_when_words_are_shared() -> None:
    assert vector_of("hello world", 64).tobytes() == vector_of("Hello, world!", 64).tobytes()
    near = float(vector_of("return an order", 512) @ vector_of("order return", 512))
    far = float(vector_of("return an order", 512) @ vector_of("battery life", 512))
    assert near > 0.7 > 0.3 > far
    assert np.linalg.norm(vector_of("?!", 8)) == pytest.approx(1.0)


def test_it_runs_as_a_program_and_is_configured_over_http() -> None:
    command = [sys.executable, "-m", "tests.support.embedding_server", "--port", "0", "--latency-ms", "1"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            base = url.removesuffix("/v1")
            assert post(f"{url}/embeddings", json.dumps(GOOD).encode())[0] == 200
            assert post(f"{base}/config", b'{"error_every": 1}')[0] == 200
            assert post(f"{url}/embeddings", json.dumps(GOOD).encode())[0] == 500
            assert post(f"{base}/config", b'{"no_such_fault": 1}')[0] == 400
            with urllib.request.urlopen(f"{base}/stats", timeout=10) as response:
                stats = json.load(response)
            assert (stats["calls"], stats["answered"], stats["inputs"]) == (2, 1, 1)
            assert post(f"{base}/reset", b"")[0] == 200
        finally:
            process.terminate()
