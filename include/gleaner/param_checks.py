"""Checks of single Params: a run may be started in ways that check less than the form does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from include.gleaner.errors import InvalidParamError

TENANT_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,62}$"
URL_PATTERN: Final = r"^https?://[^\s/?#@]+([/?#]\S*)?$"


def tenant(params: Mapping[str, Any]) -> str:
    """Param `tenant`. Raises InvalidParamError."""
    value = params.get("tenant")
    if not isinstance(value, str) or not re.fullmatch(TENANT_PATTERN.strip("^$"), value):
        raise InvalidParamError("tenant", "needs 1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter or digit")
    return value


def url(params: Mapping[str, Any]) -> str:
    """Param `url`: an address that a crawl may start from. Raises InvalidParamError."""
    value = params.get("url")
    if not isinstance(value, str) or len(value) > 2_000 or not can_be_stored(value):
        raise InvalidParamError("url", "needs an http:// or https:// address of at most 2,000 characters")
    try:
        parts = urlsplit(value.strip())
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_ok = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_ok or re.search(r"\s", value.strip()):
        raise InvalidParamError("url", "needs an http:// or https:// address with a host, such as https://example.com/")
    if parts.username is not None or parts.password is not None:
        raise InvalidParamError("url", "must not carry a user name or password")
    return value.strip()


def integer(params: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    """A whole number within the bounds, both inclusive. Raises InvalidParamError."""
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidParamError(name, f"needs a whole number from {low} to {high}")
    return value


def number(params: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    """A number within the bounds, both inclusive. Raises InvalidParamError."""
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidParamError(name, f"needs a number from {low:g} to {high:g}")
    return float(value)


def flag(params: Mapping[str, Any], name: str) -> bool:
    """True or false. Raises InvalidParamError."""
    value = params.get(name, False)
    if not isinstance(value, bool):
        raise InvalidParamError(name, "needs true or false")
    return value


def one_of(params: Mapping[str, Any], name: str, names: tuple[str, ...]) -> str:
    """One of `names`, the first by default. Raises InvalidParamError."""
    value = params.get(name, names[0])
    if not isinstance(value, str) or value not in names:
        raise InvalidParamError(name, f"needs one of {', '.join(names)}")
    return value


def patterns(params: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of regular expressions, empty ones left out. Raises InvalidParamError."""
    value = params.get(name)
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and can_be_stored(item) for item in value):
        raise InvalidParamError(name, "needs a list of regular expressions")
    if len(value) > 50 or any(len(item) > 500 for item in value):
        raise InvalidParamError(name, "takes at most 50 expressions of at most 500 characters each")
    for item in value:
        try:
            re.compile(item)
        except (re.error, ValueError, OverflowError, RecursionError) as error:
            raise InvalidParamError(name, f"{item!r} is not a regular expression: {error}") from None
    return tuple(item for item in value if item)


def can_be_stored(value: str) -> bool:
    """Whether Postgres takes the text: it has no NUL and no half of a surrogate pair."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def moment(params: Mapping[str, Any], name: str) -> datetime | None:
    """A date or time in ISO 8601, UTC unless it says otherwise; None when empty. Raises InvalidParamError."""
    value = params.get(name) or ""
    if not isinstance(value, str):
        raise InvalidParamError(name, "needs a date such as 2026-03-01")
    if not value.strip():
        return None
    try:
        found = datetime.fromisoformat(value.strip())
    except ValueError:
        raise InvalidParamError(name, "needs a date such as 2026-03-01 or 2026-03-01T12:00:00+00:00") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
