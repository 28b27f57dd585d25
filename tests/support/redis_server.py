"""A real Redis on the loopback, with a password, that ends with the test."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis


class RedisServer:
    """`redis-server` of the system; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = int(found.getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start it with nothing in it, on the port of before."""
        binary = shutil.which("redis-server")
        assert binary is not None, "there is no redis-server; `make test-cluster` installs it"
        config = self._folder / "redis.conf"
        config.write_text(
            f'bind 127.0.0.1\nport {self.port}\nrequirepass {self._password}\nsave ""\nappendonly no\n', "utf-8"
        )
        config.chmod(0o600)
        self._process = subprocess.Popen([binary, str(config)], cwd=self._folder, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.client().ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline
                assert self._process.poll() is None
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End it at once, with all that it held in memory."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
