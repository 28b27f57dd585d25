"""The body of a response: its content encodings undone, with a limit on what comes in and on what comes out."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import urllib3

ENCODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})  # those that are asked for; "identity" is none
# What else is an encoding. Other words are none, and are passed over as browsers do: "utf-8", "none", "identity".
UNASKED: Final = frozenset(
    {"br", "zstd", "compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip", "aes128gcm", "bzip2", "xz"}
)
MAX_LAYERS: Final = 2  # of encodings upon each other
GZIP_MAGIC: Final = b"\x1f\x8b"
_WIRE_PIECE: Final = 64 * 1024
_STEP: Final = 256 * 1024  # at most so much is decompressed before somebody looks at the limits


class BodyFaultError(Exception):
    """The body cannot be used; `reason` is the code for its page."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def read_body(
    response: urllib3.BaseHTTPResponse, encoding: str, *, max_bytes: int, end: float, cut_at: int | None = None
) -> bytes:
    """The decoded bytes of a response whose Content-Encoding is `encoding`.

    `max_bytes` limits the bytes on the wire and the decoded ones alike, `end` is on the monotonic clock. With `cut_at`
    only so many bytes are read and the rest is left. Raises BodyFaultError: "too_large", "timeout", "cut_off",
    "bad_encoding"; and what urllib3 raises.
    """
    named = [layer for layer in re.split(r"[\s,]+", encoding.lower()) if layer]
    layers = [layer for layer in named if layer in ENCODINGS or layer in UNASKED]
    if len(layers) > MAX_LAYERS or not ENCODINGS.issuperset(layers):
        raise BodyFaultError("bad_encoding")
    pieces: Iterable[bytes] = _wire(response, max_bytes, end)
    for layer in reversed(layers):
        pieces = _inflated(pieces, is_gzip=layer != "deflate")
    body = bytearray()
    try:
        for piece in pieces:
            body += piece
            if cut_at is not None and len(body) >= cut_at:
                return bytes(body[:cut_at])
            if len(body) > max_bytes:
                raise BodyFaultError("too_large")
            if time.monotonic() >= end:
                raise BodyFaultError("timeout")
    except zlib.error as error:
        raise BodyFaultError("bad_encoding") from error
    return bytes(body)


def _wire(response: urllib3.BaseHTTPResponse, max_bytes: int, end: float) -> Iterator[bytes]:
    received = 0
    while piece := response.read(_WIRE_PIECE, decode_content=False):
        received += len(piece)
        if received > max_bytes:
            raise BodyFaultError("too_large")
        yield piece
    if time.monotonic() >= end:  # cut by the deadline: the end of the stream is not the end of the page
        raise BodyFaultError("timeout")


def _inflated(pieces: Iterable[bytes], *, is_gzip: bool) -> Iterator[bytes]:
    """Decompressed pieces of at most 256 KB. A gzip body may have several members; what follows the last is ignored."""
    inflater = None
    members = 0
    for arrived in pieces:
        piece = arrived
        while piece:
            if inflater is None:
                if members and not (is_gzip and piece.startswith(GZIP_MAGIC[:1])):
                    break
                inflater = zlib.decompressobj(_window(piece, is_gzip=is_gzip))
                members += 1
            yield inflater.decompress(piece, _STEP)
            piece = inflater.unconsumed_tail
            if inflater.eof:
                piece, inflater = inflater.unused_data, None
    if inflater is None:
        return
    while rest := inflater.decompress(inflater.unconsumed_tail, _STEP):
        yield rest
    if not inflater.eof:
        raise BodyFaultError("cut_off")


def _window(first: bytes, *, is_gzip: bool) -> int:
    """zlib's wbits. "deflate" is with zlib's header by the standard, and without it from some servers."""
    if is_gzip:
        return 31
    has_header = len(first) >= 2 and first[0] & 0x0F == 8 and (first[0] << 8 | first[1]) % 31 == 0
    return 15 if has_header else -15
