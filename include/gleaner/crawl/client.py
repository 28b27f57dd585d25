"""One request: guarded, capped, timed, conditional. Redirects are told, not followed; nothing is tried twice here."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Final, Self

import urllib3

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl.body import BodyFaultError, read_body
from include.gleaner.crawl.guard import Deadlines, ForbiddenPortError, GuardedPools
from include.gleaner.crawl.urls import origin_of, target_of
from include.gleaner.errors import ForbiddenAddressError

ACCEPT: Final = "text/html,application/xhtml+xml;q=0.9,application/xml;q=0.8,text/plain;q=0.5,*/*;q=0.1"
PAGE_TYPES: Final = frozenset({"text/html", "application/xhtml+xml", "text/plain", ""})
XML_TYPES: Final = frozenset({"application/xml", "text/xml", "application/rss+xml", "application/atom+xml"})
SUCCESS: Final = frozenset({200, 203})
EMPTY: Final = frozenset({204, 205})
_NO_TYPE: Final = frozenset({"*/*", "unknown/unknown", "application/unknown"})
# Of a connection that was kept alive: it was closed meanwhile, or there is a rest of the answer before this one.
STALE: Final = (http.client.BadStatusLine, ConnectionResetError, BrokenPipeError)
LONGEST_HEADER: Final = 1_000  # characters that are kept of one
_ONCE: Final = urllib3.Retry(False, redirect=False)
LONGEST_DRAIN: Final = 64 * 1024  # bytes of an answer that nobody reads, so that its connection can be used again


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
    retry_after: float | None = None  # seconds
    attempts: int = 1

    @property
    def media_type(self) -> str:
        """The Content-Type without its parameters, in lower case; "" when it says nothing, as for browsers."""
        media = self.content_type.partition(";")[0].strip().lower()
        return media if "/" in media and media not in _NO_TYPE else ""


class Client:
    """Fetches pages; safe to use from several threads. Close it at the end: requests under way then end at once."""

    def __init__(self, policy: CrawlPolicy) -> None:
        self._policy = policy
        self._deadlines = Deadlines()
        # Pools alone, without a session: no cookies, no proxies, no .netrc, no setting of this machine.
        self._pools = GuardedPools(
            local_hosts=frozenset(policy.local_hosts), deadlines=self._deadlines, pool_size=policy.concurrency
        )
        self._headers = {"User-Agent": policy.user_agent, "Accept": ACCEPT, "Accept-Encoding": "gzip, deflate"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut all connections; further requests end as `timeout`."""
        self._deadlines.close()
        self._pools.clear()

    def fetch(
        self,
        url: str,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        any_type: bool = False,
        cut_at: int | None = None,
        max_bytes: int | None = None,
    ) -> Answer:
        """GET the canonical `url`, once; never raises for what a server does.

        A body is read only from a success that may be a page or a feed (or from any success with `any_type`), at most
        `max_bytes` of it (default: the policy's), and with `cut_at` only so many bytes.
        """
        headers = dict(self._headers)
        if etag:
            headers["If-None-Match"] = etag
        if last_modified:
            headers["If-Modified-Since"] = last_modified
        limit = self._policy.max_body_bytes if max_bytes is None else max_bytes
        with self._deadlines.within(self._policy.deadline_seconds) as end:
            try:
                response = self._send(url, headers)
                answer = _head_of(response.status, response.headers)
                try:
                    return self._with_body(answer, response, any_type, limit, cut_at, end)
                except BodyFaultError as error:
                    return replace(answer, fault=error.reason)
                finally:
                    response.close()  # what was read whole has given its connection back, any other is cut
                    response.release_conn()
            except ForbiddenPortError:
                return Answer(fault="forbidden_port")
            except ForbiddenAddressError:
                return Answer(fault="forbidden_address")
            except (UnicodeError, ValueError):
                return Answer(fault="invalid_url")
            except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
                return Answer(fault="timeout" if time.monotonic() >= end else fault_of(error))

    def _send(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        pool, target = self._pools.pool_of(origin_of(url)), target_of(url)
        while True:
            try:
                return pool.urlopen(
                    "GET", target, headers=headers, retries=_ONCE, redirect=False, assert_same_host=False,
                    timeout=self._policy.timeout_seconds, preload_content=False, decode_content=False,
                )  # fmt: skip
            except urllib3.exceptions.ProtocolError as error:
                # A server may close a connection just as it is used again, or say more than it had told before. Neither
                # says anything about this page.
                if not self._deadlines.was_reused() or not any(isinstance(cause, STALE) for cause in _causes(error)):
                    raise

    def _with_body(
        self,
        answer: Answer,
        response: urllib3.BaseHTTPResponse,
        any_type: bool,
        limit: int,
        cut_at: int | None,
        end: float,
    ) -> Answer:
        status = answer.status or 0
        if status not in SUCCESS:
            _drain(response, end)
            is_fault = (status >= 400 and status not in (404, 410)) or (status < 300 and status not in EMPTY)
            return replace(answer, fault=f"http_{status}" if is_fault else None)
        if not any_type and answer.media_type not in PAGE_TYPES | XML_TYPES:
            return answer  # the caller sees the type; the body is not fetched
        encoding = response.headers.get("Content-Encoding", "")
        return replace(answer, body=read_body(response, encoding, max_bytes=limit, end=end, cut_at=cut_at))


def _head_of(status: int, headers: Mapping[str, str]) -> Answer:
    return Answer(
        status=status,
        content_type=_last_type(_printable(headers.get("Content-Type")) or ""),
        location=_as_sent(headers.get("Location")),
        etag=_printable(headers.get("ETag")),
        last_modified=_printable(headers.get("Last-Modified")),
        robots_tag=headers.get("X-Robots-Tag", ""),
        retry_after=_retry_after(headers.get("Retry-After"), headers.get("Date")),
    )


def _drain(response: urllib3.BaseHTTPResponse, end: float) -> None:
    """Read what is left of a short answer: a connection can be used again only when its answer was read."""
    left = LONGEST_DRAIN
    while left > 0 and time.monotonic() < end:
        piece = response.read(8 * 1024, decode_content=False)
        if not piece:
            return
        left -= len(piece)


def fault_of(error: Exception) -> str:
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
    ((ssl.SSLError, urllib3.exceptions.SSLError), "tls"),
    ((urllib3.exceptions.NameResolutionError, socket.gaierror), "name_not_found"),
    ((urllib3.exceptions.NewConnectionError, ConnectionRefusedError), "no_connection"),
    ((urllib3.exceptions.TimeoutError, TimeoutError), "timeout"),
    (
        (
            urllib3.exceptions.IncompleteRead,
            urllib3.exceptions.InvalidChunkLength,
            http.client.IncompleteRead,
        ),
        "cut_off",
    ),
    ((http.client.RemoteDisconnected,), "no_connection"),
    # No HTTP, a line too long, over 100 headers; two lengths that differ
    ((http.client.HTTPException, urllib3.exceptions.InvalidHeader), "bad_response"),
)


def _printable(value: str | None) -> str | None:
    """A header that can be stored and sent back: servers send anything, NUL included."""
    if value is None:
        return None
    return "".join(letter for letter in value if letter.isprintable())[:LONGEST_HEADER] or None


def _last_type(value: str) -> str:
    """Of several types the last one counts, as for browsers: a server and what stands before it may each send one."""
    types = [part.strip() for part in value.split(",") if "/" in part]
    return types[-1] if len(types) > 1 else value


def _retry_after(value: str | None, date: str | None) -> float | None:
    """Seconds from now; the header has them as a number, or as a date by the server's clock, whose `date` is now."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value[:12])
    try:
        until = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    try:
        now = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        now = time.time()
    return max(0.0, until - now)


def _as_sent(location: str | None) -> str | None:
    """A Location header as text: servers send raw UTF-8, which http.client reads as Latin-1."""
    if location is None:
        return None
    try:
        return location.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return location
