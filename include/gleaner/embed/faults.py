"""What a failed request means: one verdict for each way an endpoint can fail. Pure.

Bodies of errors are not trusted and not quoted: some servers repeat the key or the texts in them. Only their short
codes are, when they look like codes.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

_CODE: Final = re.compile(r"[a-z][a-z_]{2,47}")
_OUT_OF_FUNDS: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_OF_THE_REQUEST: Final = frozenset({"model_not_found", "invalid_model", "unsupported_model", "invalid_api_key"})
_REQUEST_PARAMS: Final = frozenset({"model", "dimensions", "encoding_format", "user"})
_TRANSIENT_STATUS: Final = frozenset({408, 409, 425})
_INPUT_STATUS: Final = frozenset({400, 413, 422})
_TOO_LONG: Final = re.compile(
    r"maximum (?:context|input|sequence) length|context.length.exceeded|too many tokens", re.I
)
_MOST_MESSAGE: Final = 1_000  # characters; what is said about lengths comes first
_MEANING: Final = {
    401: "the key was not accepted",
    402: "the account has to be paid for",
    403: "the key may not do this",
    404: "there is no such model or address",
}


class Verdict(Enum):
    """What to do about it."""

    WAIT = auto()  # the endpoint asks for patience: everything waits
    AGAIN = auto()  # a fault of the moment: this request is asked again
    DIVIDE = auto()  # one of the inputs is refused: halves are asked
    QUOTA = auto()  # nothing is left to spend
    REFUSED = auto()  # key, model or address are wrong


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A request that brought no vectors."""

    verdict: Verdict
    reason: str  # safe to log and to store: no key, no text, no body
    retry_after: float | None = None  # seconds that the endpoint asked for


def of_answer(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Fault:
    """The fault behind an answer that is an error; `body` may be anything, and cut off."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    error = told.get("error", told) if isinstance(told, dict) else None
    parts = error if isinstance(error, dict) else {}
    message = body[:_MOST_MESSAGE].decode("utf-8", "replace")
    return of_status(status, headers, parts.get("code"), parts.get("type"), parts.get("param"), now, message)


def of_status(
    status: int, headers: Mapping[str, str], code: object, kind: object, param: object, now: float, message: str = ""
) -> Fault:
    """The fault behind an HTTP status.

    `code`, `kind` and `param` are the body's error.code, error.type and error.param, of any type; `now` is the time in
    seconds since 1970, for a Retry-After that is a date. The body's `message` is looked at, never repeated.
    """
    codes = [value for value in (kind, code) if isinstance(value, str) and _CODE.fullmatch(value)]
    reason = " ".join([f"HTTP {status}", *dict.fromkeys(codes)])
    if not _OUT_OF_FUNDS.isdisjoint(codes):
        return Fault(verdict=Verdict.QUOTA, reason=reason)
    if status == 429:
        return Fault(verdict=Verdict.WAIT, reason=reason, retry_after=retry_after(headers, now))
    if status == 503 and (seconds := retry_after(headers, now)) is not None:
        return Fault(verdict=Verdict.WAIT, reason=reason, retry_after=seconds)
    if status >= 500 or status in _TRANSIENT_STATUS:
        return Fault(verdict=Verdict.AGAIN, reason=reason)
    about_request = not _OF_THE_REQUEST.isdisjoint(codes) or (isinstance(param, str) and param in _REQUEST_PARAMS)
    if status in _INPUT_STATUS and not about_request:
        told = f"{reason}: longer than the model reads" if _TOO_LONG.search(message[:_MOST_MESSAGE]) else reason
        return Fault(verdict=Verdict.DIVIDE, reason=told)
    if 300 <= status < 400:
        return Fault(verdict=Verdict.REFUSED, reason=f"{reason}: the endpoint has moved")
    meaning = _MEANING.get(status, "the model or one of its settings is not accepted" if about_request else "")
    return Fault(verdict=Verdict.REFUSED, reason=f"{reason}: {meaning}" if meaning else reason)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after` (seconds or an HTTP date); None when neither can be read.

    A date is by the clock of the server: if it tells its own, that one counts, not `now`. `headers` has its names in
    lower case, or compares them without case.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1_000
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is None and value:
        try:
            until = email.utils.parsedate_to_datetime(value).timestamp()
        except (ValueError, OverflowError, TypeError):
            return None
        with contextlib.suppress(ValueError, OverflowError, TypeError):
            now = email.utils.parsedate_to_datetime(headers.get("date") or "").timestamp()
        seconds = max(0.0, until - now)
    return seconds


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value) if value else None
    except ValueError:
        return None
    return seconds if seconds is not None and math.isfinite(seconds) and seconds >= 0 else None
