from __future__ import annotations

import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from include.gleaner.embed.artifacts import cached


class Build:
    """Counts how often it had to build."""

    def __init__(self, content: bytes = b"content") -> None:
        self.content = content
        self.times = 0

    def __call__(self) -> bytes:
        self.times += 1
        return self.content


def test_built_once_and_read_after(tmp_path: Path) -> None:
    build, environ = Build(), {"GLEANER_CACHE_DIR": str(tmp_path / "deep" / "cache")}
    assert [cached("model", build, environ) for _ in range(3)] == [b"content"] * 3
    assert build.times == 1
    assert [path.name for path in (tmp_path / "deep" / "cache").iterdir()] == ["model"]  # no temporary file is left


@pytest.mark.parametrize("damage", [b"", b"short", b"\x00" * 32, b"\x00" * 32 + b"content"])
def test_a_damaged_file_is_built_again(tmp_path: Path, damage: bytes) -> None:
    build, environ = Build(), {"GLEANER_CACHE_DIR": str(tmp_path)}
    cached("model", build, environ)
    (tmp_path / "model").write_bytes(damage)
    assert cached("model", build, environ) == b"content"
    assert cached("model", build, environ) == b"content"
    assert build.times == 2


def test_without_a_directory_to_write_to_the_temporary_one_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    build, environ = Build(), {"GLEANER_CACHE_DIR": str(tmp_path / "file" / "below")}
    assert cached("model", build, environ) == cached("model", build, environ) == b"content"
    assert build.times == 1
    (directory,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_where_it_can_be_kept_it_is_not_taken_from_what_another_run_left_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    cached("model", Build(b"left behind"), {"GLEANER_CACHE_DIR": str(tmp_path / "file" / "below")})
    environ = {"GLEANER_CACHE_DIR": str(tmp_path / "chosen")}
    assert cached("model", Build(), environ) == b"content"
    assert (tmp_path / "chosen" / "model").is_file()


def test_a_temporary_directory_that_others_can_write_to_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    environ = {"GLEANER_CACHE_DIR": str(tmp_path / "file" / "below")}
    cached("model", Build(b"planted"), environ)
    (tmp_path / f"gleaner-{os.getuid()}").chmod(0o777)
    build = Build()
    assert cached("model", build, environ) == cached("model", build, environ) == b"content"
    assert build.times == 2  # nowhere to keep it, so it is built each time


def test_concurrent_builders_do_not_disturb_each_other(tmp_path: Path) -> None:
    environ = {"GLEANER_CACHE_DIR": str(tmp_path)}
    content = os.urandom(200_000)
    together = threading.Barrier(8)
    results: list[bytes] = []

    def build() -> bytes:
        together.wait(10)  # all have found nothing before the first has written
        return content

    workers = [threading.Thread(target=lambda: results.append(cached("model", build, environ))) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert results == [content] * 8
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
