"""Licences are allowed or judged by name; the bill of materials and a release are the same bytes every time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools import audit
from tools.licences import JUDGED, judge, needed, verdicts
from tools.release import NotReadyError, release, version_of
from tools.sbom import bill

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 1, 2, tzinfo=UTC)


def test_every_package_that_runs_in_production_may_be_used() -> None:
    found = list(verdicts(ROOT / "requirements.txt"))
    assert len(found) > 100
    assert [str(verdict) for verdict in found if not verdict.ok] == []


def test_no_judgement_is_left_of_a_package_that_is_gone() -> None:
    assert set(JUDGED) <= set(needed(ROOT / "requirements.txt"))


GPL = "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
MIT = "Classifier: License :: OSI Approved :: MIT License"


@pytest.mark.parametrize(
    ("name", "metadata", "ok"),
    [
        ("new", "License-Expression: MIT", True),
        ("new", "License-Expression: Apache-2.0 OR GPL-3.0-only", True),
        ("new", MIT, True),
        ("new", "License: BSD-2-Clause", True),
        ("new", "License-Expression: GPL-3.0-only", False),
        ("new", "License-Expression: AGPL-3.0-or-later", False),
        ("new", "License-Expression: LGPL-3.0-only", False),  # nobody judged this one
        ("new", "License-Expression: MIT AND GPL-2.0-only", False),
        ("new", "License-Expression: GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("new", GPL, False),
        ("new", f"{MIT}\n{GPL}", False),
        ("new", "Classifier: License :: OSI Approved :: GNU Affero General Public License v3", False),
        ("new", "License: Commercial, ask us", False),
        ("new", "License: UNKNOWN", False),
        ("new", "Summary: says nothing", False),
        ("psycopg", "License-Expression: LGPL-3.0-only", True),
        ("psycopg", "License-Expression: AGPL-3.0-only", False),  # it changed: the judgement was of another one
    ],
)
def test_a_licence_is_judged_by_what_the_package_says(tmp_path: Path, name: str, metadata: str, ok: bool) -> None:
    (tmp_path / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1\n{metadata}\n", "utf-8")
    assert judge(PathDistribution(tmp_path)).ok is ok


def test_the_bill_has_every_pin_with_its_licence_and_is_the_same_every_time() -> None:
    first, again = (bill(ROOT / "requirements.txt", version="1.2.3", at=AT) for _ in range(2))
    assert first == again
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(first) is None
    told = json.loads(first)
    parts = {one["purl"]: one for one in told["components"]}
    pins = [line for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines() if line[:1].isalpha()]
    assert len(parts) == len(pins)
    assert parts["pkg:pypi/psycopg@" + _pin("psycopg", pins)]["licenses"] == [{"license": {"id": "LGPL-3.0-only"}}]
    without = {one["name"] for one in parts.values() if "licenses" not in one}
    here = set(needed(ROOT / "requirements.txt"))
    assert without & here == set()


def _pin(name: str, pins: list[str]) -> str:
    return next(line.split("==")[1].split(" ")[0] for line in pins if line.startswith(f"{name}=="))


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def targets_of(name: str) -> list[str]:
    """The targets of tests that the Makefile has, or that another file asks of it."""
    start = "^" if name == "Makefile" else r"\bmake "
    found = re.findall(rf"{start}(test[a-z-]*)\b", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    assert len(found) == len(set(found))
    return sorted(found)


def test_ci_runs_every_test_there_is() -> None:
    assert targets_of(".ci/run") == targets_of("Makefile")
    assert "test-compose" in targets_of(".ci/run")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that is ready to be released as 1.2.3."""
    root = tmp_path / "project"
    (root / "include/gleaner").mkdir(parents=True)
    (root / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", root / ".ci/run")
    (root / "requirements.txt").write_text("requests==2.0\n", "ascii")
    (root / "include/gleaner/__init__.py").write_text('__version__ = "1.2.3"\n', "ascii")
    (root / "pyproject.toml").write_text('[project]\nname = "gleaner"\nversion = "1.2.3"\n', "ascii")
    tested = ", ".join(f"`make {target}`" for target in targets_of("Makefile"))
    (root / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## 1.2.3 (2026-12-01)\n\n- New.\n\nTested by {tested}\n", "ascii"
    )
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "x", "--date", "2026-12-01T00:00:00Z")
    return root


def test_the_same_commit_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in release(project, tmp_path / "one")}
    git(tmp_path, "clone", "-q", str(project), "elsewhere")
    again = {path.name: path.read_bytes() for path in release(tmp_path / "elsewhere", tmp_path / "two")}
    assert first == again
    assert set(first) == {"gleaner-1.2.3.tar.gz", "gleaner-1.2.3.cdx.json", "SHA256SUMS"}
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path / "two", check=True)
    listed = subprocess.run(
        ["tar", "tzf", "gleaner-1.2.3.tar.gz"], cwd=tmp_path / "two", check=True, capture_output=True, text=True
    ).stdout
    assert "gleaner-1.2.3/CHANGELOG.md" in listed.split()
    assert json.loads(first["gleaner-1.2.3.cdx.json"])["metadata"]["component"]["version"] == "1.2.3"


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("CHANGELOG.md", "(2026-12-01)", "(unreleased)", "calls 1.2.3 unreleased"),
        ("CHANGELOG.md", "## 1.2.3", "## 1.2.2", "no section '## 1.2.3"),
        ("CHANGELOG.md", "`make test`", "", "does not say 'Tested by ...' with `make test`"),
        ("CHANGELOG.md", "`make test-compose`", "", "does not say 'Tested by ...' with `make test-compose`"),
        ("pyproject.toml", '"1.2.3"', '"1.2.2"', "pyproject.toml says version 1.2.2"),
        ("include/gleaner/__init__.py", "1.2.3", "1.2", "no __version__ of the form"),
        ("requirements.txt", "requests", "no-such-package-anywhere", "licence: NOT no-such-package-anywhere"),
    ],
)
def test_what_is_not_ready_is_told_and_nothing_written(
    project: Path, tmp_path: Path, file: str, old: str, new: str, told: str
) -> None:
    text = (project / file).read_text("utf-8")
    assert old in text
    (project / file).write_text(text.replace(old, new), "utf-8")
    git(project, "commit", "-qam", "y")
    with pytest.raises(NotReadyError, match=told.replace("(", r"\(")):
        release(project, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tree_that_is_not_clean_is_no_release(project: Path, tmp_path: Path) -> None:
    (project / "left over.txt").write_text("x", "ascii")
    with pytest.raises(NotReadyError, match="not clean"):
        release(project, tmp_path / "out")


def test_the_licence_is_the_apache_licence_and_versions_agree() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert text.split("\n", 3)[:2] == [" " * 33 + "Apache License", " " * 27 + "Version 2.0, January 2004"]
    assert text.count("\n") > 190
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text("utf-8")
    version = version_of(ROOT)
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert f"## {version} (" in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("answer", "code", "line"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', 0, "no vulnerability is known of 1"),
        (
            '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]},'
            ' {"name": "b", "skip_reason": "not found"}]}',
            1, "a 1: CVE-1, mended in 2",
        ),
        ('{"dependencies": [{"name": "a", "skip_reason": "not found"}]}', 2, "1 of 1 packages were not checked"),
        ('{"dependencies": []}', 2, "0 of 0"),
        ("", 2, "cannot be reached"),
    ],
)  # fmt: skip
def test_no_answer_is_no_all_clear(answer: str, code: int, line: str) -> None:
    found, lines = audit.told(answer)
    assert found == code
    assert lines[0].startswith(line) or line in lines[0]
