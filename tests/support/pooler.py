"""A pooler before a real Postgres, as PgBouncer is one: process numbers of its own, and sessions shared or not."""

from __future__ import annotations

import contextlib
import itertools
import socket
import socketserver
import struct
import threading
from types import TracebackType
from typing import Self

Message = tuple[bytes, bytes]  # its type, its content


class Pooler:
    """Listens on a port of the loopback. Shared: all clients take turns on one session, a transaction at a time."""

    def __init__(self, host: str, port: int, *, shared: bool) -> None:
        self._server = (host, port)
        self._shared = shared
        self._turn = threading.Lock()
        self._session: socket.socket | None = None
        self._numbers = itertools.count(1_000_000)

    def __enter__(self) -> Self:
        pooler = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, struct.error):
                    pooler._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._listening = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._listening.server_address[1])
        threading.Thread(target=self._listening.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown()
        self._listening.server_close()
        if self._session is not None:
            self._session.close()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(self._server)
        self._log_in(client, server)
        if self._shared and self._session is None:
            self._session = server
        session = self._session or server
        while True:
            kind, content = _read(client)
            if kind == b"X":
                break
            with self._turn if self._shared else threading.Lock():
                state = b"T"
                while True:
                    _send(session, kind, content)
                    if kind in (b"Q", b"S"):
                        state = _answer(session, client)
                    if state == b"I":
                        break
                    kind, content = _read(client)
        if server is not self._session:
            server.close()

    def _log_in(self, client: socket.socket, server: socket.socket) -> None:
        (length,) = struct.unpack("!i", _exactly(client, 4))
        server.sendall(struct.pack("!i", length) + _exactly(client, length - 4))
        while True:
            kind, content = _read(server)
            if kind == b"K":
                content = struct.pack("!i", next(self._numbers)) + content[4:]
            _send(client, kind, content)
            if kind == b"Z":
                return
            if kind == b"R" and struct.unpack("!i", content[:4])[0] in (3, 5, 10, 11):
                _send(server, *_read(client))


def _answer(session: socket.socket, client: socket.socket) -> bytes:
    """Hand the server's answer on; the state of the transaction after it."""
    while True:
        kind, content = _read(session)
        _send(client, kind, content)
        if kind == b"Z":
            return content


def _read(sock: socket.socket) -> Message:
    kind, length = struct.unpack("!ci", _exactly(sock, 5))
    return kind, _exactly(sock, length - 4)


def _send(sock: socket.socket, kind: bytes, content: bytes) -> None:
    sock.sendall(struct.pack("!ci", kind, len(content) + 4) + content)


def _exactly(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = sock.recv(count - len(found))
        if not part:
            raise ConnectionError
        found += part
    return found
