"""What goes wrong with the test's endpoint, on order, and what it counts."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

API_KEY: Final = "sk-test-0123456789abcdef"


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong, and when. `..._every=n` is every n-th call, `..._first=n` the first n calls; 0 is never."""

    api_key: str = API_KEY  # the one that is accepted; "" accepts all, and none
    latency_ms: float = 0.0
    together: int = 0  # calls wait until so many have been under way at once, ten seconds at most
    rate_limit_every: int = 0
    rate_limit_first: int = 0
    retry_after: str = ""  # header of the 429; "" sends none
    error_every: int = 0
    error_first: int = 0
    error_status: int = 500
    error_megabytes: int = 0  # of blanks that follow an error, gzip-compressed
    drop_every: int = 0  # connections closed without an answer
    drop_first: int = 0
    hang_first: int = 0  # never answered, until the server ends
    trickle_first: int = 0  # answered a byte at a time, for ever
    wrong_count_first: int = 0  # one vector fewer than inputs
    repeated_index_first: int = 0  # two vectors with one index
    cut_first: int = 0  # connections closed in the middle of the answer
    garbage_first: int = 0  # 200 with a body that is no JSON
    nan_first: int = 0  # NaN for texts with `nan_marker`, or for the first input when that is ""
    nan_marker: str = ""
    quota_after: int = 0  # insufficient_quota after so many calls
    refuse_marker: str = ""  # 400 for requests with an input that contains it
    refuse_all: bool = False
    shuffle: bool = False  # items out of the order of their index
    lists: bool = False  # lists of numbers although base64 was asked for
    wrong_dimensions: int = 0  # vectors of this length instead
    no_usage: bool = False


@dataclass(kw_only=True)
class Stats:
    """What was asked since the last reset."""

    calls: int = 0
    answered: int = 0  # with vectors, whole and right: what a customer would have got for the money
    inputs: int = 0  # of the answered calls
    tokens: int = 0  # of the answered calls
    most_inputs: int = 0  # in one call, answered or not
    most_tokens: int = 0
    most_under_way: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    repeated: int = 0  # texts that were answered more than once


class RefusalError(Exception):
    """An error as the API words it."""

    def __init__(self, status: int, message: str, *, kind: str = "invalid_request_error", code: str | None = None,
                 param: str | None = None, headers: dict[str, str] | None = None) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Dropped(Exception):
    """The connection is to be closed without an answer."""


def misbehave(number: int, faults: Faults, ended: threading.Event) -> None:
    """What goes wrong with the call of this number before it is looked at; a call that hangs does so until `ended`."""

    def due(every: int, first: int) -> bool:
        return number <= first or (every > 0 and number % every == 0)

    if number <= faults.hang_first:
        ended.wait()
        raise Dropped
    if due(faults.drop_every, faults.drop_first):
        raise Dropped
    if faults.quota_after and number > faults.quota_after:
        raise RefusalError(429, "You exceeded your current quota", kind="insufficient_quota", code="insufficient_quota")
    if due(faults.rate_limit_every, faults.rate_limit_first):
        headers = {"retry-after": faults.retry_after} if faults.retry_after else {}
        raise RefusalError(429, "Rate limit reached", kind="requests", code="rate_limit_exceeded", headers=headers)
    if due(faults.error_every, faults.error_first):
        raise RefusalError(faults.error_status, "The server had an error", kind="server_error")
