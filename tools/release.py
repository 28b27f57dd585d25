"""Makes the files of a release out of the commit that is checked out, or says what is not ready for one.

    python -m tools.release [FOLDER]      default: dist/

A source archive, the software bill of materials and their SHA-256 sums; the same commit gives the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from tools.licences import verdicts
from tools.sbom import bill

ROOT = Path(__file__).parents[1]


class NotReadyError(Exception):
    """What stands in the way of a release, a line for each."""


def release(root: Path, folder: Path) -> list[Path]:
    """Write the files of the version that `root` is at into `folder`. Raises NotReadyError."""
    version = version_of(root)
    problems = list(check(root, version))
    if problems:
        raise NotReadyError("\n".join(problems))
    at = datetime.fromtimestamp(int(_git(root, "log", "-1", "--format=%ct")), UTC)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"gleaner-{version}"
    tar = subprocess.run(
        ["git", "archive", "--format=tar", f"--prefix={name}/", "HEAD"], cwd=root, capture_output=True, check=True
    ).stdout
    archive, parts = folder / f"{name}.tar.gz", folder / f"{name}.cdx.json"
    archive.write_bytes(gzip.compress(tar, compresslevel=9, mtime=0))
    parts.write_text(bill(root / "requirements.txt", version=version, at=at), "utf-8")
    sums = folder / "SHA256SUMS"
    sums.write_text(
        "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in (archive, parts)), "ascii"
    )
    return [archive, parts, sums]


def version_of(root: Path) -> str:
    """What the package calls itself."""
    text = (root / "include/gleaner/__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "(\d+\.\d+\.\d+)"$', text, re.MULTILINE)
    if found is None:
        raise NotReadyError("include/gleaner/__init__.py has no __version__ of the form 1.2.3")
    return found[1]


def check(root: Path, version: str) -> list[str]:
    """What is not ready, a line for each."""
    problems: list[str] = []
    changed = _git(root, "status", "--porcelain")
    if changed:
        problems.append(f"the tree is not clean: commit or remove {', '.join(changed.split()[1::2][:5])}")
    told = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    if told != version:
        problems.append(f"pyproject.toml says version {told}, the package {version}")
    section = re.search(
        rf"^## {re.escape(version)} \((\d{{4}}-\d{{2}}-\d{{2}}|unreleased)\)\n(.*?)(?=^## |\Z)",
        (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE | re.DOTALL,
    )  # fmt: skip
    if section is None:
        problems.append(f"CHANGELOG.md has no section '## {version} (YYYY-MM-DD)'")
    elif section[1] == "unreleased":
        problems.append(f"CHANGELOG.md calls {version} unreleased: give it its date")
    else:
        tests = set(re.findall(r"\bmake (test[a-z-]*)", (root / ".ci/run").read_text("utf-8")))
        named = re.search(r"^Tested by (.+)$", section[2], re.MULTILINE)
        missing = sorted(tests - set(re.findall(r"`make ([a-z-]+)`", named[1] if named else "")))
        if missing:
            names = ", ".join(f"`make {name}`" for name in missing)
            problems.append(f"CHANGELOG.md does not say 'Tested by ...' with {names}: run them on this commit")
    problems += [f"licence: {verdict}" for verdict in verdicts(root / "requirements.txt") if not verdict.ok]
    return problems


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def main(arguments: list[str]) -> int:
    try:
        for path in release(ROOT, Path(arguments[0]) if arguments else ROOT / "dist"):
            print(path)
    except NotReadyError as error:
        sys.stderr.write("".join(f"release: {line}\n" for line in str(error).splitlines()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
