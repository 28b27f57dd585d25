"""The sample website: a small shop with help pages, in English and Persian, served on loopback.

    python -m include.gleaner.local.website --port 8000

Pages are fragments under `site/`: some `name: value` lines, an empty line, then the content of <main>. This module puts
the navigation, the cookie banner and the footer around them, as the templates of a real site would.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import html
import json
import re
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from email.utils import formatdate
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from string import Template
from typing import Any, Final, Self
from urllib.parse import urlsplit

HOST: Final = "127.0.0.1"
MODIFIED: Final = formatdate(1_767_225_600, usegmt=True)  # the files' date does not survive a clone
REDIRECTS: Final = {"/old-catalogue": "/catalogue", "/index.html": "/"}


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page as it lies under `site/`."""

    path: str
    language: str
    title: str
    description: str
    content: str
    other: str = ""  # the same page in the other language
    data: str = ""  # JSON-LD


class SampleWebsite:
    """Serves the sample on loopback, in threads of this process. `port` 0 takes any free one.

    Raises OSError when the port is in use.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.requests: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """Address of the start page; only while it is served."""
        if self._server is None:
            raise RuntimeError("the sample website is not being served; call start first")
        return f"http://{HOST}:{self._server.server_port}/"

    def start(self) -> str:
        """Serve; the address of the start page."""
        site = self

        class Handler(_Handler):
            website = site

        self._server = ThreadingHTTPServer((HOST, self._port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="sample-website", daemon=True
        )
        self._thread.start()
        return self.url

    def stop(self) -> None:
        """Stop serving and free the port."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @cached_property
    def pages(self) -> dict[str, Page]:
        """All pages by their path."""
        folder = files("include.gleaner.local").joinpath("site")
        found: dict[str, Page] = {}
        for language in ("en", "fa"):
            for entry in folder.joinpath(language).iterdir():
                if entry.name.endswith(".html"):
                    page = _read(entry.read_text("utf-8"), language)
                    found[page.path] = page
        return dict(sorted(found.items()))

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a path without its query."""
        if path in self.pages:
            return 200, "text/html; charset=utf-8", self._render(self.pages[path])
        if path == "/style.css":
            return 200, "text/css; charset=utf-8", _file("style.css").encode()
        if path == "/robots.txt":
            text = f"User-agent: *\nDisallow: /cart/\n\nSitemap: {self.url}sitemap.xml\n"
            return 200, "text/plain; charset=utf-8", text.encode()
        if path == "/sitemap.xml":
            return 200, "application/xml", self._sitemap()
        missing = Page(
            path=path,
            language="en",
            title="Page not found",
            description="",
            content="<h1>Page not found</h1><p>There is nothing at this address.</p><p><a href='/'>Start page</a></p>",
        )
        return 404, "text/html; charset=utf-8", self._render(missing)

    def _render(self, page: Page) -> bytes:
        layout = Template(_file(f"layout.{page.language}.html"))
        origin = self.url.rstrip("/")
        links = [f'<link rel="canonical" href="{origin}{page.path}">']
        if page.other:
            other = "fa" if page.language == "en" else "en"
            links.append(f'<link rel="alternate" hreflang="{other}" href="{origin}{page.other}">')
        if page.data:
            links.append(f'<script type="application/ld+json">{page.data}</script>')
        text = layout.substitute(
            title=html.escape(page.title),
            description=html.escape(page.description),
            head="\n  ".join(links),
            content=page.content,
            other=page.other or ("/fa/" if page.language == "en" else "/"),
        )
        return text.encode()

    def _sitemap(self) -> bytes:
        entries = "".join(f"<url><loc>{self.url.rstrip('/')}{path}</loc></url>" for path in self.pages)
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</urlset>'
        ).encode()


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with keep-alive, validators and HEAD."""

    website: SampleWebsite
    protocol_version = "HTTP/1.1"
    server_version = "SampleWebsite"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""

    def _answer(self, *, with_body: bool) -> None:
        path = urlsplit(self.path).path
        self.website.requests[path] += 1
        if path in REDIRECTS:
            self._send(301, {"Location": REDIRECTS[path]}, b"", with_body=False)
            return
        status, kind, body = self.website.answer(path)
        headers = {"Content-Type": kind}
        if status == 200:
            tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            headers |= {"ETag": tag, "Last-Modified": MODIFIED}
            if self.headers.get("If-None-Match") == tag:
                self._send(304, headers, None, with_body=False)
                return
        self._send(status, headers, body, with_body=with_body)

    def _send(self, status: int, headers: dict[str, str], body: bytes | None, *, with_body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body and body:
            self.wfile.write(body)


def _read(text: str, language: str) -> Page:
    head, _, content = text.partition("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    match = re.search(r"<script type=\"application/ld\+json\">(.*?)</script>", content, re.DOTALL)
    if match:
        content = content.replace(match[0], "")
    return Page(
        path=fields["path"],
        language=language,
        title=fields["title"],
        description=fields.get("description", ""),
        other=fields.get("other", ""),
        content=content.strip(),
        data=json.dumps(json.loads(match[1]), ensure_ascii=False) if match else "",
    )


def _file(name: str) -> str:
    return files("include.gleaner.local").joinpath("site", name).read_text("utf-8")


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve Gleaner's sample website")
    parser.add_argument("--port", type=int, default=8000)
    with SampleWebsite(parser.parse_args().port) as site:
        sys.stdout.write(f"{site.url}\n")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
