"""`python -m include.gleaner.process` and `.chunk`, as people call them who tune a site."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = """<html lang=en><title>Pumps</title><h1>Pumps</h1><p>A pump moves water from the barrel to the beds.</p>
<h2>Care</h2><ul><li>Rinse it in autumn.</li><li>Keep it from frost, which breaks the housing.</li></ul>"""


def run(module: str, *arguments: str | Path) -> tuple[int, list[dict[str, Any]], str]:
    done = subprocess.run(
        [sys.executable, "-m", f"include.gleaner.{module}", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.fixture
def pages(tmp_path: Path) -> dict[str, Path]:
    found = {
        "plain": tmp_path / "pumps.html",
        "packed": tmp_path / "0042.html.gz",
        "refused": tmp_path / "missing.html",
        "damaged": tmp_path / "damaged.html.gz",
        "binary": tmp_path / "binary.html",
        "absent": tmp_path / "absent.html",
    }
    found["plain"].write_text(PAGE, "utf-8")
    found["packed"].write_bytes(gzip.compress(PAGE.encode()))
    found["refused"].write_text("<title>404 Not Found</title><h1>Not Found</h1>", "utf-8")
    found["damaged"].write_bytes(gzip.compress(PAGE.encode() * 50)[:60])
    found["binary"].write_bytes(bytes(range(1, 32)) * 200)
    return found


def test_a_line_for_each_page(pages: dict[str, Path]) -> None:
    code, lines, _ = run("process", *pages.values(), "--url", "https://example.com/pumps")
    assert code == 1
    assert [(line["id"], line["kind"]) for line in lines] == [
        ("pumps", "content"), ("0042", "content"), ("missing", "refused"), ("damaged", "unreadable"),
        ("binary", "unreadable"), ("absent", "unreadable"),
    ]  # fmt: skip
    plain, packed, refused, damaged, binary, absent = lines
    assert plain["text"].split("\n") == [
        "Pumps", "A pump moves water from the barrel to the beds.", "Care", "- Rinse it in autumn.",
        "- Keep it from frost, which breaks the housing.",
    ]  # fmt: skip
    assert (plain["title"], plain["language"], plain["reason"]) == ("Pumps", "en", None)
    assert [section["path"] for section in plain["sections"]] == [["Pumps"], ["Pumps", "Care"]]
    assert {**packed, "id": "pumps"} == plain
    assert (refused["reason"], refused["text"], refused["sections"]) == ("soft_404", "", [])
    assert "damaged" in damaged["reason"]
    assert "no text" in binary["reason"]
    assert "absent.html cannot be read: No such file" in absent["reason"]


def test_a_line_for_each_chunk(pages: dict[str, Path]) -> None:
    long = pages["plain"].with_name("long.html")
    long.write_text(PAGE.replace("</ul>", "<li>It hums when it is dry.</li>" * 60 + "</ul>"), "utf-8")
    code, lines, told = run("chunk", pages["plain"], long, pages["refused"], "--tokens", "100")
    assert code == 0
    assert [line["index"] for line in lines if line["id"] == "long"] == list(range(len(lines) - 2))
    assert len(lines) > 6
    assert max(line["token_count"] for line in lines) <= 100
    assert lines[1]["section_title"] == "Pumps > Care"
    assert lines[1]["text"] == "- Rinse it in autumn.\n- Keep it from frost, which breaks the housing."
    assert {line["language"] for line in lines} == {"en"}
    assert "missing.html: no content, soft_404" in told


def test_a_chunk_command_says_what_it_cannot_do(pages: dict[str, Path]) -> None:
    code, lines, told = run("chunk", pages["absent"], pages["plain"])
    assert (code, {line["id"] for line in lines}) == (1, {"pumps"})
    assert "absent.html: No such file" in told
    code, lines, told = run("chunk", pages["plain"], "--tokens", "20")
    assert (code, lines) == (2, [])
    assert "64 to 2,000 tokens" in told
