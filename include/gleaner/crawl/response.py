"""Answers as http.client reads them, with more care: what it leaves unread would come before the next answer.

A connection has many answers, and they are told apart by their order alone. Where the first word of one is taken for
all of it, the rest is stored as the page that is asked for next.
"""

from __future__ import annotations

import http.client
from http import HTTPStatus


class CarefulResponse(http.client.HTTPResponse):
    """One that hears out a server which says something before its answer, and believes no negative length."""

    def begin(self) -> None:
        """Read the head. After "switching protocols" comes something else than HTTP."""
        super().begin()
        if self.status == HTTPStatus.SWITCHING_PROTOCOLS:
            self.will_close = True

    def _read_status(self) -> tuple[str, int, str]:
        """The status line; one of hints (103) or of work under way (102) is passed over like "100 Continue"."""
        version, status, reason = super()._read_status()  # type: ignore[misc]
        is_before = HTTPStatus.SWITCHING_PROTOCOLS < status < HTTPStatus.OK
        return version, HTTPStatus.CONTINUE if is_before else status, reason

    def _read_next_chunk_size(self) -> int:
        """The next chunk's size; -1 would mean to read into memory whatever comes."""
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            raise ValueError("a chunk of negative size")
        return size
