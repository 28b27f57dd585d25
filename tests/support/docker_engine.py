"""A Docker engine for tests: the one that answers, else one of our own that ends with the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from include.gleaner.local.processes import ProcessGroup, sweep

START_SECONDS: Final = 60
# Where the first does not work: a file system that cannot be laid over another, a kernel without packet filters.
ATTEMPTS: Final[Sequence[Sequence[str]]] = (
    (),
    ("--iptables=false", "--ip6tables=false"),
    ("--storage-driver=vfs",),
    ("--storage-driver=vfs", "--iptables=false", "--ip6tables=false"),
)


class DockerEngine:
    """A context manager. Images stay in `folder` for the next time, if the engine is our own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: ProcessGroup | None = None
        self.environ = {**os.environ, "DOCKER_BUILDKIT": "0"}  # the builder that needs no plugin and no registry

    def __enter__(self) -> Self:
        if not self._answers():
            self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._processes is not None:
            self._processes.close()
            self._processes = None

    @property
    def is_ours(self) -> bool:
        """Whether the engine was started here."""
        return self._processes is not None

    def run(self, *arguments: str, timeout: float = 600, stdin: object = subprocess.DEVNULL) -> str:
        """`docker ...`: what it printed. Raises AssertionError with what it said when it fails."""
        done = subprocess.run(
            ["docker", *arguments], env=self.environ, capture_output=True, text=True, timeout=timeout, check=False,
            stdin=stdin,  # type: ignore[arg-type]
        )  # fmt: skip
        assert done.returncode == 0, f"docker {' '.join(arguments[:3])}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip()

    def has_image(self, name: str) -> bool:
        """Whether the image is there."""
        return bool(self.run("images", "--quiet", name))

    def _answers(self) -> bool:
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(command, env=self.environ, capture_output=True, check=False).returncode == 0

    def _start(self) -> None:
        assert os.geteuid() == 0, "no Docker engine answers, and only root can start one"
        assert shutil.which("dockerd"), "there is no dockerd; `make test-compose` installs it"
        run_dir = self._folder / "run"
        sweep(run_dir)
        self._folder.mkdir(parents=True, exist_ok=True)
        socket = self._folder / "docker.sock"
        assert len(str(socket)) < 100, f"the path {socket} is too long for a socket; set GLEANER_TEST_CACHE"
        self.environ["DOCKER_HOST"] = f"unix://{socket}"
        log = self._folder / "dockerd.log"
        for options in ATTEMPTS:
            self._processes = ProcessGroup(run_dir)
            self._processes.guard()
            mark = log.stat().st_size if log.exists() else 0
            engine = self._processes.start(
                "dockerd",
                [
                    "dockerd", f"--host=unix://{socket}", f"--data-root={self._folder / 'data'}",
                    f"--exec-root={self._folder / 'exec'}", f"--pidfile={self._folder / 'dockerd.pid'}", *options,
                ],
                log=log,
                grace_seconds=60,
            )  # fmt: skip
            deadline = time.monotonic() + START_SECONDS
            while engine.poll() is None and time.monotonic() < deadline:
                if self._answers():
                    return
                time.sleep(0.2)
            self._processes.close()
            self._processes = None
        with log.open("rb") as file:
            file.seek(mark)
            said = file.read()[-3000:].decode("utf-8", "replace")
        raise AssertionError(f"dockerd does not start here:\n{said}")
