"""One fetch: guarded, capped, timed, conditional, tried again where that can help. Redirects are told, not followed."""

from __future__ import annotations

import http.client
import random
import re
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import Cookie, DefaultCookiePolicy
from typing import Final, Self

import requests
import urllib3
from requests.exceptions import RequestException

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl.guard import Deadlines, GuardedAdapter
from include.gleaner.errors import ForbiddenAddressError

ACCEPT: Final = "text/html,application/xhtml+xml;q=0.9,text/plain;q=0.5,*/*;q=0.1"
PAGE_TYPES: Final = frozenset({"text/html", "application/xhtml+xml", "text/plain", "application/xml", "text/xml", ""})
RETRY_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
ENCODINGS: Final = frozenset({"gzip", "x-gzip", "deflate", "identity"})
LONGEST_HEADER: Final = 1_000  # characters that are kept of one
LONGEST_WAIT_SECONDS: Final = 30.0  # between two attempts, whatever Retry-After says
_PIECE: Final = 16 * 1024  # of the wire; what decompresses from it is bounded too


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server said about one address, or why it said nothing that can be used."""

    status: int | None = None  # None when there was no answer
    fault: str | None = None  # reason code: "timeout", "too_large", "http_503", ...; None when the answer can be used
    body: bytes = b""
    content_type: str = ""
    location: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    robots_tag: str = ""
    attempts: int = 1

    @property
    def media_type(self) -> str:
        """The Content-Type without its parameters, in lower case."""
        return self.content_type.partition(";")[0].strip().lower()


class Client:
    """Fetches pages of one source; safe to use from several threads. Close it at the end.

    `pause` waits before another attempt and may be replaced to test without waiting.
    """

    def __init__(self, policy: CrawlPolicy, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._policy = policy
        self._pause = pause
        self._deadlines = Deadlines()
        self._session = requests.Session()
        self._session.trust_env = False  # no proxies, no .netrc: nothing of this machine goes to a tenant's site
        adapter = GuardedAdapter(
            local_hosts=frozenset(policy.local_hosts), deadlines=self._deadlines, pool_size=policy.concurrency
        )
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._session.cookies.set_policy(_NoCookies())
        self._session.headers.update(
            {"User-Agent": policy.user_agent, "Accept": ACCEPT, "Accept-Encoding": "gzip, deflate"}
        )
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._closed.set()
        self._session.close()
        self._deadlines.close()

    def fetch(
        self,
        url: str,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        any_type: bool = False,
        cut_at: int | None = None,
    ) -> Answer:
        """GET `url`; never raises for what a server does.

        A body is read only from a 200 that may be a page (or from any 200 with `any_type`), and with `cut_at` only so
        many bytes of it.
        """
        headers = {}
        if etag:
            headers["If-None-Match"] = etag
        if last_modified:
            headers["If-Modified-Since"] = last_modified
        for attempt in range(1, self._policy.attempts + 1):
            answer, wait = self._try(url, headers, any_type, cut_at, attempt)
            if wait is None or attempt == self._policy.attempts or self._closed.is_set():
                return answer
            self._pause(wait)
        raise AssertionError("a policy has at least one attempt")

    def _try(
        self, url: str, headers: dict[str, str], any_type: bool, cut_at: int | None, attempt: int
    ) -> tuple[Answer, float | None]:
        """One attempt, and the seconds to wait before another, or None when another would not help."""
        backoff = min(LONGEST_WAIT_SECONDS, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load only
        with self._deadlines.within(self._policy.deadline_seconds) as end:
            try:
                with self._session.get(
                    url, headers=headers, timeout=self._policy.timeout_seconds, stream=True, allow_redirects=False
                ) as response:
                    answer = self._read(response, any_type, cut_at, attempt, end)
            except ForbiddenAddressError:
                return Answer(fault="forbidden_address", attempts=attempt), None
            except (requests.exceptions.InvalidURL, UnicodeError, ValueError):
                return Answer(fault="invalid_url", attempts=attempt), None
            except (RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                late = time.monotonic() >= end
                fault = "timeout" if late else _fault_of(error)
                return Answer(fault=fault, attempts=attempt), None if late or fault == "tls" else backoff
        if answer.status in RETRY_STATUS:
            asked = _retry_after(response.headers.get("Retry-After"))
            if asked is not None and asked > LONGEST_WAIT_SECONDS:
                return answer, None
            return answer, max(backoff, asked or 0.0)
        return answer, None

    def _read(
        self, response: requests.Response, any_type: bool, cut_at: int | None, attempt: int, end: float
    ) -> Answer:
        status, headers = response.status_code, response.headers
        answer = Answer(
            status=status,
            content_type=_printable(headers.get("Content-Type")) or "",
            location=_as_sent(headers.get("Location")),
            etag=_printable(headers.get("ETag")),
            last_modified=_printable(headers.get("Last-Modified")),
            robots_tag=headers.get("X-Robots-Tag", ""),
            attempts=attempt,
        )
        if status != 200:
            is_fault = status >= 400 and status not in (404, 410)
            return _with(answer, fault=f"http_{status}") if is_fault else answer
        if not any_type and answer.media_type not in PAGE_TYPES:
            return answer  # the caller sees the type; the body is not fetched
        if not set(re.findall(r"[^\s,]+", headers.get("Content-Encoding", "").lower())) <= ENCODINGS:
            return _with(answer, fault="bad_encoding")  # not one of those that were asked for
        body = bytearray()
        for piece in response.raw.stream(_PIECE, decode_content=True):
            body += piece
            if cut_at is not None and len(body) >= cut_at:
                return _with(answer, body=bytes(body[:cut_at]))
            if len(body) > self._policy.max_body_bytes:
                return _with(answer, fault="too_large")
            if time.monotonic() > end:
                return _with(answer, fault="timeout")
        if time.monotonic() >= end:  # cut by the deadline: the end of the stream is not the end of the page
            return _with(answer, fault="timeout")
        return _with(answer, body=bytes(body))


def _with(answer: Answer, *, fault: str | None = None, body: bytes = b"") -> Answer:
    return Answer(
        status=answer.status,
        fault=fault,
        body=body,
        content_type=answer.content_type,
        location=answer.location,
        etag=answer.etag,
        last_modified=answer.last_modified,
        robots_tag=answer.robots_tag,
        attempts=answer.attempts,
    )


def _fault_of(error: Exception) -> str:
    """A reason code; the error's own text may carry addresses and is not passed on."""
    causes = list(_causes(error))
    for kinds, fault in _FAULTS:
        if any(isinstance(cause, kinds) for cause in causes):
            return fault
    return "no_connection"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it was made of: libraries wrap in `reason`, in the arguments, or as the cause."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        this = waiting.pop()
        if isinstance(this, BaseException) and id(this) not in seen:
            seen.add(id(this))
            yield this
            waiting += [this.__cause__, this.__context__, getattr(this, "reason", None), *this.args]


# By type and never by text: the text may hold the address, and the address may hold any word. First match counts.
_FAULTS: Final[tuple[tuple[tuple[type[BaseException], ...], str], ...]] = (
    ((ssl.SSLError, requests.exceptions.SSLError, urllib3.exceptions.SSLError), "tls"),
    ((urllib3.exceptions.NameResolutionError, socket.gaierror), "name_not_found"),
    ((urllib3.exceptions.NewConnectionError, ConnectionRefusedError), "no_connection"),
    ((requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError), "timeout"),
    ((requests.exceptions.ContentDecodingError, urllib3.exceptions.DecodeError), "bad_encoding"),
    (
        (
            urllib3.exceptions.IncompleteRead,
            urllib3.exceptions.InvalidChunkLength,
            http.client.IncompleteRead,
            requests.exceptions.ChunkedEncodingError,
        ),
        "cut_off",
    ),
)


def _printable(value: str | None) -> str | None:
    """A header that can be stored and sent back: servers send anything, NUL included."""
    if value is None:
        return None
    return "".join(letter for letter in value if letter.isprintable())[:LONGEST_HEADER] or None


def _retry_after(value: str | None) -> float | None:
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _as_sent(location: str | None) -> str | None:
    """A Location header as text: servers send raw UTF-8, which http.client reads as Latin-1."""
    if location is None:
        return None
    try:
        return location.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return location


class _NoCookies(DefaultCookiePolicy):
    """What a site says to one page's fetch must not change what it says to the next."""

    def set_ok(self, cookie: Cookie, request: urllib.request.Request) -> bool:
        """Never."""
        return False
