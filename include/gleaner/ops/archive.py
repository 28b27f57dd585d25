"""The dump itself: written by pg_dump through a pipe, and read back into one transaction of a connection of ours.

Through a pipe, because pg_dump then ends with us. pg_restore gives the statements and rows as text, and we run them: so
the rows can be compared, and the old schema swapped out, before anything is committed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import psycopg

from include.gleaner.errors import BackupError
from include.gleaner.ops.client_tools import ClientTools, complaint, environment, run
from include.gleaner.sql import queries

PIECE: Final = 1 << 20
SYNC_BYTES: Final = 4 << 20  # all of it at once at the end, and whoever commits meanwhile would wait for it
LOCK_WAIT: Final = "--lock-wait-timeout=60s"
COMPRESSION: Final = "--compress=1"  # vectors shrink no further at a higher level, which takes several times as long
SCHEMA: Final = "gleaner"
_PSQL_ONLY: Final = (b"\\restrict", b"\\unrestrict")
# pg_restore 17 and newer says it to every server, older servers do not know it.
_NEWER_ONLY: Final = b"SET transaction_timeout = 0;"


@dataclass(frozen=True, kw_only=True)
class Dumped:
    """A dump that was written to the end."""

    bytes: int
    sha256: str


def write_dump(tools: ClientTools, dsn: str, snapshot: str, file: IO[bytes]) -> Dumped:
    """The schema as of an exported snapshot, in pg_dump's custom format, into an open file.

    Raises BackupError with what pg_dump complained about, or when the disk is full.
    """
    command = [tools.pg_dump, "--format=custom", f"--schema={SCHEMA}", f"--snapshot={snapshot}", LOCK_WAIT, COMPRESSION]
    digest, size, synced = hashlib.sha256(), 0, 0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, env=environment(dsn))
        try:
            assert process.stdout is not None
            while piece := process.stdout.read(PIECE):
                digest.update(piece)
                size += len(piece)
                file.write(piece)
                if size - synced >= SYNC_BYTES:
                    file.flush()
                    os.fsync(file.fileno())
                    synced = size
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise BackupError(f"the backup cannot be written ({error.strerror}); free some space, then again") from None
        finally:
            if process.stdout is not None:
                process.stdout.close()  # pg_dump ends by it if it has not ended yet
            code = process.wait()
        if code:
            said.seek(0)
            raise BackupError(complaint(tools.pg_dump, said.read().decode("utf-8", "replace")))
    return Dumped(bytes=size, sha256=digest.hexdigest())


def list_dump(tools: ClientTools, dump: Path) -> list[str]:
    """The lines of its table of contents. Raises BackupError when pg_restore cannot read it."""
    lines = run([tools.pg_restore, "--list", str(dump)]).splitlines()
    return [line for line in lines if line.strip() and not line.startswith(";")]


def load_dump(conn: psycopg.Connection, tools: ClientTools, dump: Path, *, keep_owner: bool, trial: bool) -> None:
    """Run the dump inside the transaction that is open on `conn`; nothing is committed here, and of a trial never.

    Raises BackupError when pg_restore cannot read it, psycopg.Error when Postgres refuses what is in it.
    """
    for section in ("pre-data", "data", "post-data"):
        with _script(tools, dump, section, keep_owner) as lines:
            if section == "data":
                if trial:
                    conn.execute(queries("backup")["without_log"])
                _load_rows(conn, lines)
            else:
                _execute(conn, b"".join(_for_server(conn, lines)))


def _load_rows(conn: psycopg.Connection, lines: Iterator[bytes]) -> None:
    """The data section: COPY blocks, and statements of one line between them."""
    statements: list[bytes] = []
    for line in _for_server(conn, lines):
        if not (line.startswith(b"COPY ") and line.rstrip().endswith(b"FROM stdin;")):
            statements.append(line)
            continue
        _execute(conn, b"".join(statements))
        statements.clear()
        with conn.cursor().copy(line.rstrip().removesuffix(b";")) as copy:
            piece = bytearray()
            for row in lines:
                if row == b"\\.\n":
                    break
                piece += row
                if len(piece) >= PIECE:
                    copy.write(bytes(piece))
                    piece.clear()
            else:
                raise BackupError("the backup ends in the middle of a table")
            copy.write(bytes(piece))
    _execute(conn, b"".join(statements))


def _for_server(conn: psycopg.Connection, lines: Iterator[bytes]) -> Iterator[bytes]:
    """Without what only psql, or only a newer server, understands."""
    older = conn.info.server_version < 170000
    for line in lines:
        if not line.startswith(_PSQL_ONLY) and not (older and line.strip() == _NEWER_ONLY):
            yield line


def _execute(conn: psycopg.Connection, statements: bytes) -> None:
    if any(line.strip() and not line.startswith(b"--") for line in statements.splitlines()):
        conn.execute(statements)


@contextmanager
def _script(tools: ClientTools, dump: Path, section: str, keep_owner: bool) -> Iterator[Iterator[bytes]]:
    """pg_restore's text of one section, line by line. It needs no connection, so it gets no secret."""
    command = [tools.pg_restore, f"--section={section}", "--file=-", *([] if keep_owner else ["--no-owner"]), str(dump)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
        try:
            assert process.stdout is not None
            yield iter(process.stdout)
        finally:
            if process.stdout is not None:
                process.stdout.close()
            code = process.wait()
        if code:
            said.seek(0)
            raise BackupError(complaint(tools.pg_restore, said.read().decode("utf-8", "replace")))
