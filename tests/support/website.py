"""A real web server on loopback for tests: routes are plain functions, every request is counted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(kw_only=True)
class Reply:
    """What a route answers. `drip` sends the body byte by byte, with so many seconds between two."""

    body: bytes | str = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    drip: float = 0.0
    length: int | None = None  # a Content-Length that lies


@dataclass(kw_only=False)
class Raw:
    """Bytes instead of HTTP; the connection is closed afterwards. `drip` as in Reply."""

    data: bytes = b""
    drip: float = 0.0


Route = Reply | Raw | str | bytes | Callable[[Mapping[str, str]], "Reply | Raw | str | bytes"]


class TestWebsite:
    """Serves `routes` (path with query -> reply); what has no route is a 404."""

    __test__ = False

    def __init__(self, routes: Mapping[str, Route] | None = None) -> None:
        self.routes: dict[str, Route] = dict(routes or {})
        self.endless: Callable[[str], Route | None] = lambda _: None  # asked for paths that have no route
        self.requests: Counter[str] = Counter()
        self.seen_headers: dict[str, Mapping[str, str]] = {}
        self.arrivals: list[float] = []  # of every request, on the monotonic clock
        self.connections = 0
        self.delay = 0.0
        self._lock = threading.Lock()

    @classmethod
    def named(cls, host: str) -> Self:
        """One that is not served: for tables of cases that need a host's name."""
        website = cls()
        website.host, website.url = host, f"http://{host}/"
        return website

    def __enter__(self) -> Self:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def setup(self) -> None:
                super().setup()
                site.connections += 1

            def do_GET(self) -> None:
                site._answer(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128  # the default of 5 makes connections wait a second when several threads connect

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign,assignment]
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.arrivals.append(time.monotonic())
            self.requests[handler.path] += 1
            self.seen_headers[handler.path] = dict(handler.headers.items())
        if self.delay:
            time.sleep(self.delay)
        route = self.routes.get(handler.path) or self.endless(handler.path)
        if route is None:
            route = Reply(status=404, body="<p>nothing here")
        reply = route(dict(handler.headers.items())) if callable(route) else route
        if isinstance(reply, Raw):
            self._send_raw(handler, reply)
            return
        if not isinstance(reply, Reply):
            reply = Reply(body=reply)
        body = reply.body.encode() if isinstance(reply.body, str) else reply.body
        if reply.status in (204, 304):
            body = b""
        try:
            handler.send_response(reply.status)
            headers = {"Content-Type": "text/html; charset=utf-8", **reply.headers}
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(body) if reply.length is None else reply.length))
            handler.end_headers()
            if reply.drip:
                for byte in body:
                    handler.wfile.write(bytes([byte]))
                    handler.wfile.flush()
                    time.sleep(reply.drip)
            else:
                handler.wfile.write(body)
        except OSError:
            pass
        if reply.length is not None:
            handler.close_connection = True

    def _send_raw(self, handler: BaseHTTPRequestHandler, raw: Raw) -> None:
        handler.close_connection = True
        try:
            for start in range(0, len(raw.data), 10) if raw.drip else (0,):
                handler.wfile.write(raw.data[start : start + 10] if raw.drip else raw.data)
                handler.wfile.flush()
                time.sleep(raw.drip)
        except OSError:
            pass


def page(text: str, *links: str, head: str = "") -> str:
    """A small page with a paragraph and links."""
    anchors = "".join(f'<a href="{link}">{link}</a> ' for link in links)
    return f"<!doctype html><html><head><title>{text}</title>{head}</head><body><p>{text}</p>{anchors}</body></html>"
