"""A fast website for measurements, in a process of its own: as many pages as asked for, made as they are asked for.

python -m benchmarks.site_server PAGES KILOBYTES LINKS      prints its port; ends when its standard input does

Each page links the first pages and others of the site, so that all are reached. It has validators, keeps connections,
and tells at /__stats when each request came (seconds on the monotonic clock, which all processes share).
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from functools import lru_cache

ARRIVALS: list[float] = []
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "many",
    "other",
    "animals",
    "watch",
    "and",
    "say",
    "nothing",
    "at",
    "all",
    "about",
    "it",
]


@lru_cache(maxsize=4_096)
def body_of(number: int, pages: int, kilobytes: int, links: int) -> bytes:
    """A page of about `kilobytes` with `links` links: the next two of a binary tree, the first ones, and any others."""
    chance = random.Random(number)
    numbers = [2 * number + 1, 2 * number + 2, *range(links // 3), *(chance.randrange(pages) for _ in range(links))]
    anchors = "".join(
        f'<li class="item"><a class="link" href="/guide/part-{n % 7}/page-{n}.html">Page {n}</a></li>\n'
        for n in [n for n in numbers if n < pages][:links]
    )
    text = ""
    while len(text) + len(anchors) < kilobytes * 1_000:
        text += f"<p>{' '.join(chance.choices(WORDS, k=60))}.</p>\n"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Page {number}</title></head><body>'
        f"<nav><ul>{anchors}</ul></nav><main><h1>Page {number}</h1>{text}</main></body></html>"
    ).encode()


class Server(asyncio.Protocol):
    """One connection."""

    def __init__(self, pages: int, kilobytes: int, links: int) -> None:
        self._site = (pages, kilobytes, links)
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._waiting += data
        while b"\r\n\r\n" in self._waiting:
            head, _, self._waiting = self._waiting.partition(b"\r\n\r\n")
            self._transport.write(self._answer(head))

    def _answer(self, head: bytes) -> bytes:
        path = head.split(b" ", 2)[1].decode()
        if path == "/__stats":
            return _response(b"200 OK", json.dumps(ARRIVALS).encode(), b"application/json")
        ARRIVALS.append(time.monotonic())
        match = re.search(r"page-(\d+)", path)
        if path != "/" and not match:
            return _response(b"404 Not Found", b"nothing here", b"text/html")
        if b"\r\nif-none-match:" in head.lower():
            return b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n'
        return _response(b"200 OK", body_of(int(match[1]) if match else 0, *self._site), b"text/html; charset=utf-8")


def _response(status: bytes, body: bytes, content_type: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\nServer: bench\r\nDate: Tue, 24 Nov 2026 00:00:00 GMT\r\nETag: \"1\"\r\nContent-Type: %b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (status, content_type, len(body), body)
    )  # fmt: skip


async def serve(pages: int, kilobytes: int, links: int) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Server(pages, kilobytes, links), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(*(int(argument) for argument in sys.argv[1:4])))
