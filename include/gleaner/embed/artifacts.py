"""Keeps what the local model builds from its weights as files, so that a process starts in a second.

A file is the SHA-256 of its content and then the content: one that was cut short or altered is noticed and built again.
Files appear by an atomic rename, so concurrent builders do the work twice at worst.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_DIGEST_BYTES: Final = hashlib.sha256().digest_size


def cached(name: str, build: Callable[[], bytes], environ: Mapping[str, str] | None = None) -> bytes:
    """The content kept under `name`, built and kept when it is not there; `name` says all that the content depends on.

    The directory is GLEANER_CACHE_DIR, else ~/.cache/gleaner, else one of this user's below the temporary directory.
    When none can be written the content is built each time.
    """
    content = None
    for directory in _directories(os.environ if environ is None else environ):
        kept = _read(directory / name)
        if kept is not None:
            return kept
        if not _may_write(directory):
            continue  # the next one may have it; where it can be kept it is not taken from elsewhere
        content = build() if content is None else content
        try:
            _write(directory / name, content)
        except OSError as error:
            log.debug("%s cannot be written: %s", directory, error)
        else:
            return content
    log.warning(
        "no directory to keep %s in, it is built each time; set GLEANER_CACHE_DIR to one that can be written", name
    )
    return build() if content is None else content


def _directories(environ: Mapping[str, str]) -> Iterator[Path]:
    if chosen := environ.get("GLEANER_CACHE_DIR"):
        yield Path(chosen)
    else:
        with suppress(RuntimeError):  # a user without a home directory
            yield Path.home() / ".cache" / "gleaner"
    user = os.getuid() if hasattr(os, "getuid") else "user"
    yield Path(tempfile.gettempdir()) / f"gleaner-{user}"


def _read(path: Path) -> bytes | None:
    try:
        if not _is_ours(path.parent):
            return None
        data = path.read_bytes()
    except OSError:
        return None
    content = data[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != data[:_DIGEST_BYTES]:
        log.warning("%s is damaged, it is built again", path)
        return None
    return content


def _write(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(content).digest())
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _may_write(directory: Path) -> bool:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _is_ours(directory) and os.access(directory, os.W_OK)
    except OSError:
        return False


def _is_ours(directory: Path) -> bool:
    """Whether nobody but this user (and root) can put files there: the checksum stands against accidents only.

    A name below the temporary directory can be taken by someone else first.
    """
    if not hasattr(os, "getuid"):
        return True
    status = directory.stat()
    return status.st_uid in (os.getuid(), 0) and not status.st_mode & stat.S_IWOTH
