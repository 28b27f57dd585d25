"""What every answer and every change goes through: headers that bind the browser, and proof that the page itself asks.

A browser sends Airflow's cookie along with requests that another website's page makes it send. Such a request can carry
neither a header of ours nor a JSON body without asking first (which is never allowed), and names where it comes from.
All three are looked at, so that none of them has to hold alone.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

from airflow.configuration import conf
from fastapi import HTTPException, Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final = "X-Gleaner"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PORTS: Final = {"http": 80, "https": 443}
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Headers:
    """Middleware that puts HEADERS on every answer that has no header of that name yet."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


def same_page(request: Request) -> None:
    """A dependency: 403 or 415 for a change that our own page, or a client with a header of ours, did not ask for."""
    if request.method in SAFE_METHODS:
        return
    if request.headers.get(HEADER) != "1":
        raise HTTPException(403, f"a change needs the header {HEADER}: 1")
    site = request.headers.get("Sec-Fetch-Site")
    if site not in (None, "same-origin"):
        raise HTTPException(403, "a change cannot be asked for from another website")
    origin = request.headers.get("Origin")
    if origin is not None and not _is_ours(origin, request.headers.get("Host")):
        raise HTTPException(
            403, "a change cannot be asked for from another website; where a proxy changes the Host header, "
            "[api] base_url of Airflow needs to be the address that users have"
        )  # fmt: skip
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "a change needs Content-Type: application/json")


def _is_ours(origin: str, host: str | None) -> bool:
    """Whether a page of this origin is one of Airflow's: its host was asked, or it is in Airflow's own public address.

    X-Forwarded-Host is not looked at, as Airflow does not: whoever reaches Airflow past the proxy could set it.
    """
    try:
        asking = urlsplit(origin)
    except ValueError:  # half an IPv6 address
        return False
    if not asking.netloc:
        return False
    public = urlsplit(conf.get("api", "base_url", fallback="") or "")
    return asking.netloc == host or _whole(asking) == _whole(public)


def _whole(address: SplitResult) -> tuple[str, str | None, int | None]:
    """Scheme, host and port, the port also where it goes without saying."""
    try:
        port = address.port
    except ValueError:  # none that is one
        port = -1
    return address.scheme, address.hostname, port or PORTS.get(address.scheme)
