"""What the documentation says about names, defaults and files is what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from include.gleaner.crawl.client import _FAULTS
from include.gleaner.params import INGEST_FORM, MIGRATE_FORM
from include.gleaner.process.rules import REASONS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
CRAWL = (ROOT / "docs" / "crawl.md").read_text("utf-8")
DOCUMENTS = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "docs/api.md",
    "docs/capacity.md",
    "docs/crawl.md",
    "docs/deploy.md",
    "docs/drop-in.md",
    "docs/knowledge.md",
    "docs/orchestration.md",
    "docs/pages.md",
    "docs/runbook.md",
    "docs/watch.md",
    "docs/ui.md",
    "include/gleaner/process/block_model.md",
]


def test_the_table_of_dags_is_current() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", README, re.MULTILINE)) - set(INGEST_FORM)
    assert listed == {path.stem for path in (ROOT / "dags").glob("*.py")}


def test_the_table_of_params_is_current() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|([^|]*)\| ", README, re.MULTILINE)
    told = {name: default.strip().strip("`") for names, default in rows for name in re.findall(r"`(\w+)`", names)}
    for name, field in INGEST_FORM.items():
        assert told[name] == (json.dumps(field["default"]) if "default" in field else ""), name


def test_the_table_of_params_of_a_migration_is_current() -> None:
    text = (ROOT / "docs" / "orchestration.md").read_text("utf-8").split("## Upgrade")[1].split("\n## ")[0]
    told = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\| ", text, re.MULTILINE))
    assert {name: default.strip() for name, default in told.items()} == {
        name: json.dumps(field["default"]) for name, field in MIGRATE_FORM.items()
    }


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        for line in re.findall(r"^make ([a-z -]+)", (ROOT / document).read_text("utf-8"), re.MULTILINE):
            assert set(line.split()) <= targets, line


def test_the_reasons_of_refusals_are_current() -> None:
    table = (ROOT / "docs" / "pages.md").read_text("utf-8").split("## Pages that are refused")[1].split("##")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == REASONS


def test_the_reasons_of_pages_are_current() -> None:
    """Every reason code that the crawl can write stands in the table, and the table has no other."""
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "include/gleaner/crawl").glob("*.py"))
    written = set(re.findall(r"""(?:reason=(?:[^,()]* else )?|fault=|BodyFaultError\()"([a-z]\w+)\"""", source))
    written |= {code for _, code in _FAULTS}
    table = CRAWL[CRAWL.index("| | Reasons |") : CRAWL.index("A second crawl asks")]
    told = set(re.findall(r"`(\w+)`", table)) - {"fetched", "skipped", "gone", "failed", "discovered", "text", "html"}
    by_others = {"duplicate", "near_duplicate", "js_shell", "soft_404", "http_NNN"}
    assert by_others - {"duplicate", "near_duplicate", "http_NNN"} <= set(REASONS)
    assert told - by_others == written


def test_the_repository_names_no_machine() -> None:
    """No absolute home folders, no registry hosts, no keys."""
    wrong = re.compile(r"/home/\w+/|/Users/\w+/|/root/|\bpypi\.org\b|files\.pythonhosted|sk-[A-Za-z0-9]{20}")
    for path in ROOT.rglob("*"):
        inside = path.relative_to(ROOT)
        if path.suffix in {".py", ".md", ".sql", ".txt", ".in", ".toml", ".html"} and inside.parts[0] not in {
            ".venv", ".venv-peers", ".venv-audit", ".gleaner", "dist", "tests",
        }:  # fmt: skip
            assert not wrong.search(path.read_text("utf-8")), inside
