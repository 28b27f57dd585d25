"""The sample website: a small shop with help pages, in English and Persian, served on loopback.

    python -m include.gleaner.local.website --port 8000

Pages are fragments under `site/`: some `name: value` lines, an empty line, then the content of <main>. This module puts
the navigation, the cookie banner and the footer around them, as the templates of a real site would.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import html
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from string import Template
from typing import Any, Final, Self
from urllib.parse import urlsplit

from include.gleaner.local.threaded_server import ThreadedServer

HOST: Final = "127.0.0.1"
SITE: Final = Path(__file__).parent / "site"
REDIRECTS: Final = {"/old-catalogue": "/catalogue", "/index.html": "/"}
NOT_FOUND: Final = {
    "en": (
        "Page not found",
        "<p>There is nothing at this address. It may have moved, or the link that led here was mistyped.</p>"
        '<p><a href="/">Start page</a> · <a href="/catalogue">Catalogue</a> · <a href="/help/">Help</a></p>',
    ),
    "fa": (
        "صفحه پیدا نشد",
        "<p>در این نشانی چیزی نیست. شاید صفحه جابه‌جا شده یا پیوندی که شما را به اینجا آورد نادرست بوده است.</p>"
        '<p><a href="/fa/">صفحه نخست</a> · <a href="/fa/help/faq">پرسش‌های پرتکرار</a></p>',
    ),
}


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page as it lies under `site/`."""

    path: str  # empty: no address of its own, as for an error
    language: str
    title: str
    description: str
    content: str
    modified: int  # Unix seconds: when the fragment or its layout was last written
    other: str = ""  # the same page in the other language
    data: str = ""  # JSON-LD


class SampleWebsite:
    """Serves the sample in threads of this process, on loopback unless `bind` names another address.

    `port` 0 takes any free one; `name` is the host by which the pages name each other. `start` raises OSError, which
    names the port, when the port is in use, forbidden or none.
    """

    def __init__(self, port: int = 0, *, bind: str = HOST, name: str = HOST) -> None:
        self._port = port
        self._bind = bind
        self._name = name
        self._server: ThreadedServer | None = None
        self._thread: threading.Thread | None = None
        self._counting = threading.Lock()
        self.requests: Counter[str] = Counter()  # by path

    @property
    def url(self) -> str:
        """Address of the start page; only while it is served."""
        if self._server is None:
            raise RuntimeError("the sample website is not being served; call start first")
        return f"http://{self._name}:{self._server.server_port}/"

    def start(self) -> str:
        """Serve; the address of the start page. Started already, it goes on as it is."""
        if self._server is not None:
            return self.url
        site = self

        class Handler(_Handler):
            website = site

        try:
            self._server = ThreadedServer((self._bind, self._port), Handler)
        except OverflowError:
            raise OSError(errno.EINVAL, f"{self._port} is no port; name one from 1 to 65535, or 0 for any") from None
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise OSError(error.errno, f"port {self._port} {reason}; free it or name another, 0 for any") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="sample-website", daemon=True
        )
        self._thread.start()
        return self.url

    def stop(self) -> None:
        """Stop serving, end the connections that are kept open, and free the port."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @cached_property
    def pages(self) -> dict[str, Page]:
        """All pages by their path."""
        found = [_read(file, language) for language in ("en", "fa") for file in (SITE / language).glob("*.html")]
        return {page.path: page for page in sorted(found, key=lambda page: page.path)}

    def count(self, path: str) -> None:
        """Note one request; called from many threads."""
        with self._counting:
            self.requests[path] += 1

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
            return 200, "application/xml; charset=utf-8", self._sitemap()
        language = "fa" if path.startswith("/fa/") else "en"
        title, text = NOT_FOUND[language]
        missing = Page(
            path="", language=language, title=title, description="", modified=0, content=f"<h1>{title}</h1>{text}"
        )
        return 404, "text/html; charset=utf-8", self._render(missing)

    def _render(self, page: Page) -> bytes:
        layout = Template(_file(f"layout.{page.language}.html"))
        origin = self.url.rstrip("/")
        links = [f'<link rel="canonical" href="{origin}{page.path}">'] if page.path else []
        if page.other:
            versions = {page.language: page.path, "fa" if page.language == "en" else "en": page.other}
            links += [
                f'<link rel="alternate" hreflang="{language}" href="{origin}{path}">'
                for language, path in sorted(versions.items())
            ]
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
    disable_nagle_algorithm = True  # head and body are two writes: the second must not wait for an ACK
    server_version = "SampleWebsite"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""

    def _answer(self, *, with_body: bool) -> None:
        try:
            path = urlsplit(self.path).path
        except ValueError:  # such as http://[
            self.send_error(400)
            return
        self.website.count(path)
        if path in REDIRECTS:
            self._send(301, {"Location": REDIRECTS[path]}, b"", with_body=False)
            return
        status, kind, body = self.website.answer(path)
        headers = {"Content-Type": kind}
        if status == 200:
            tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            headers["ETag"] = tag
            page = self.website.pages.get(path)
            if page is not None:
                headers["Last-Modified"] = formatdate(page.modified, usegmt=True)
            if self._has(tag, page.modified if page is not None else None):
                self._send(304, headers, None, with_body=False)
                return
        self._send(status, headers, body, with_body=with_body)

    def _has(self, tag: str, modified: int | None) -> bool:
        """Whether the client has this version. Where it sends tags its date does not count (RFC 9110, 13.1.3)."""
        tags = self.headers.get("If-None-Match")
        if tags is not None:
            known = [item.strip().removeprefix("W/") for item in tags.split(",")]
            return tag in known or "*" in known
        since = self.headers.get("If-Modified-Since")
        if since is None or modified is None:
            return False
        try:
            return modified <= parsedate_to_datetime(since).timestamp()
        except (ValueError, OverflowError):
            return False  # a date that is none is ignored

    def _send(self, status: int, headers: dict[str, str], body: bytes | None, *, with_body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body and body:
            self.wfile.write(body)


def _read(file: Path, language: str) -> Page:
    head, _, content = file.read_text("utf-8").partition("\n\n")
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
        modified=int(max(part.stat().st_mtime for part in (file, SITE / f"layout.{language}.html"))),
        data=json.dumps(json.loads(match[1]), ensure_ascii=False) if match else "",
    )


def _file(name: str) -> str:
    return (SITE / name).read_text("utf-8")


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve Gleaner's sample website")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--bind", default=HOST, help="address to listen on, in a container 0.0.0.0")
    parser.add_argument("--name", default=HOST, help="host by which the pages name each other")
    options = parser.parse_args()
    site = SampleWebsite(options.port, bind=options.bind, name=options.name)
    try:
        site.start()
    except OSError as error:
        parser.exit(1, f"{error.strerror}\n")
    with contextlib.suppress(KeyboardInterrupt), site:
        print(site.url, flush=True)  # at once, into a pipe too
        threading.Event().wait()


if __name__ == "__main__":
    main()
