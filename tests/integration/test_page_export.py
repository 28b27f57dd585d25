"""Readers of exports that read slowly, or not at all: they keep nothing from others, and are cut off."""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import psycopg
import pytest
import uvicorn

from include.gleaner.api import database, streaming
from include.gleaner.api.app import create_app
from include.gleaner.api.guard import HEADER
from tests.support.page_app import ADMIN, Users
from tests.support.page_client import five_pages
from tests.support.tenant import Tenant

HEADERS = {"Authorization": f"Bearer {ADMIN}", HEADER: "1"}
MANY_BYTES = 12_000_000  # more than the sockets between hold


@pytest.fixture
def port(users: Users, tenant: Tenant) -> Iterator[int]:
    """Where the page is served, with a snapshot of so many bytes stored."""
    five_pages(tenant)
    tenant.conn.execute(
        "UPDATE gleaner.page_snapshot SET body = %s"
        " WHERE page_id = (SELECT page_id FROM gleaner.page_snapshot ORDER BY page_id LIMIT 1)",
        (os.urandom(MANY_BYTES),),
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(create_app(), log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = server.force_exit = True
        thread.join()


def reader(port: int) -> socket.socket:
    """Asks for an export and reads the first bytes of it."""
    conn = socket.socket()
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    conn.settimeout(20)
    conn.connect(("127.0.0.1", port))
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    conn.sendall(f"GET /api/export?tenant=acme HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
    return conn


def sessions(conn: psycopg.Connection) -> int:
    row = conn.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND xact_start IS NOT NULL AND backend_type = 'client backend'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_readers_that_do_not_read_hold_up_nobody(port: int, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "SECONDS_IN_LINE", 0.0)  # all have asked long before the first is cut off
    monkeypatch.setattr(streaming, "SECONDS_A_BLOCK", 5.0)
    with ExitStack() as stack, httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=HEADERS, timeout=30) as client:
        began = [stack.enter_context(reader(port)).recv(12).decode() for _ in range(database.MOST_CONNECTIONS)]
        assert sorted(began) == ["HTTP/1.1 200"] * 2 + ["HTTP/1.1 503"] * 6
        assert sessions(tenant.conn) <= 2
        assert client.get("/api/sources", params={"tenant": "acme"}).status_code == 200
        deadline = time.monotonic() + 60
        while (answer := client.get("/api/export", params={"tenant": "acme"}, timeout=30)).status_code == 503:
            assert time.monotonic() < deadline  # until they are cut off
            time.sleep(0.1)
        *_, last = gzip.decompress(answer.content).splitlines()
        assert json.loads(last)["rows"]["tenant"] == 1


def test_a_reader_that_is_gone_holds_nothing(port: int, tenant: Tenant) -> None:
    for _ in range(3):
        with reader(port) as conn:
            assert conn.recv(12) == b"HTTP/1.1 200"
        deadline = time.monotonic() + 15
        while sessions(tenant.conn):
            assert time.monotonic() < deadline
            time.sleep(0.1)
