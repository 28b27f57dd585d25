from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WORDS = "<p>Words about gardens and water pipes, and how they are laid. " * 20
ARTICLE = '<meta property="og:type" content="article">'

# Each is quick where work grows with the size of the page, and takes minutes or more where it grows with its square.
PAGES = {
    "nested divs": "'<div>' * 5_000 + WORDS",
    "nested divs in an article": "ARTICLE + '<div>' * 5_000 + WORDS",
    "nested spans": "'<span>' * 20_000 + 'text'",
    "nested headings": "'<div role=heading>' * 20_000 + WORDS",
    "nested permalinks": "'<div class=headerlink>' * 20_000 + WORDS * 3",
    "nested buttons": "'<button>' * 10_000 + WORDS",
    "nested tables": "'<table><tr><td>a<td>' * 3_000 + WORDS",
    "nested lists": "'<ul><li>a' * 5_000",
    "one word": "'<p>' + 'ب' * 1_000_000",
    "one word in an article": "ARTICLE + '<p>' + 'a' * 1_000_000",
    "comments": "'<!-- -->' * 50_000 + '<p>text'",
    "open comments": "'<!--' * 100_000",
    "open tags": "'<meta ' * 100_000 + '\\udcff'",
    "open brackets": "'<' * 500_000",
    "attribute": "'<div class=\"' + 'a-b ' * 500_000 + '\" title=\"' + 'y' * 3_000_000 + '\"><p>text'",
    "entities": "'<!DOCTYPE a [<!ENTITY b \"c\">' + '<!ENTITY d \"&b;&b;&b;\">' * 50 + ']><p>' + '&d;' * 50_000",
    "spans of cells": "'<table>' + '<tr><td rowspan=50000 colspan=50000>a<td>b' * 2_000",
    "cells over everything": "'<table>' + ('<tr>' + '<td colspan=50 rowspan=50>a' * 1_000 + '<tr><td>b' * 49) * 50",
    "deep lists with text": "'<main>' + '<ul><li>some words of this item' * 18_000 + WORDS",
    "deep menus": "'<nav>' + '<div>a b <p><a href=x>some words that are linked</a></p>' * 30_000",
    "deep sidebars": "WORDS * 300 + '<div class=sidebar>some' * 30_000",
    "lines of sidebars": "WORDS * 300 + '<div><div class=sidebar>some</div>' * 30_000",
    "open declarations": "'<meta ' * 1_500_000 + '<p>text'",
    "line breaks": "'<br> ' * 50_000 + 'text'",
    "title": "'<title>' + ' - ' * 100_000 + '</title><title>404 ' + 'page ' * 100_000",
    "brackets in JSON": "'<script type=\"application/ld+json\">' + '[' * 1_000_000 + '</script><p>text'",
    "spaces in a charset": "'<meta charset=' + ' ' * 300_000 + '><p>text'",
    "spaces in a clip": "'<div style=\"clip:rect(1' + (' ' * 1_000 + '1') * 3 + ' x\">' + WORDS",
    "a gallery": "'<figure>' + '<img alt=\"the words of a picture\">' * 40_000 + '</figure>' + WORDS",
    "properties in properties": "'<div itemscope>' + '<div itemprop=x>a ' * 20_000 + WORDS",
    "hidden parts in hidden parts": "''.join(f'<a href=#h{n}>x</a>' for n in range(20_000))"
    " + ''.join(f'<div hidden id=h{n}><a href=u>w w</a>' for n in range(20_000)) + WORDS",
    "ends of nothing": "'<i>' * 20_000 + '</x>' * 1_500_000 + WORDS",
    "links in links": "'<title>Index of /</title>' + '<a href=x><div>' * 20_000 + WORDS",
    "marks": "'<p>a' + '\u0301\u0323' * 100_000",
    "marks in code": "WORDS + '<pre>a' + '\u0301\u0323' * 100_000 + '</pre>'",
    "marks with nothing between them": "'<p>a' + ('\u0301\u0323' * 10 + '\u200b&#1;&#31;') * 10_000",
    "headings without text": "''.join(f'<h2>heading {n}</h2>' for n in range(80_000))",
    "headings and answers": '\'<script type="application/ld+json">{"@type":"FAQPage","mainEntity":[\''
    ' + \',\'.join(\'{"name":"%d","acceptedAnswer":{"text":"%s"}}\' % (n, \'word \' * 1_500) for n in range(200))'
    " + ']}</script>' + ''.join(f'<h2>heading {n}</h2><p>text {n} of it' for n in range(4_000))",
    "sections that begin alike": "'<main>' + ''.join(f'<h2>s{n}</h2><p>Details<p>' + f'Words about garden {n}. ' * 20"
    " for n in range(6_000))",
    "a row of dashes": "'<table><tr><td>a<td>b<tr>' + '<td>-' * 100_000 + '<td>x<tr><td>c<td>d</table>' + WORDS",
    "null bytes": "'<p>text' * 20_000 + '\\0' * 1_000",
}

READ = """
import signal
from include.gleaner.errors import GleanerError
from include.gleaner.chunk.splitter import split
from include.gleaner.config import ChunkPolicy
from include.gleaner.models import Document
from include.gleaner.process.similar import bands_of
from tests.support.documents import read
WORDS, ARTICLE = {words!r}, {article!r}

def give_up(*_):
    raise TimeoutError

signal.signal(signal.SIGPROF, give_up)
for name, page in {pages!r}.items():
    signal.setitimer(signal.ITIMER_PROF, 15)  # of CPU
    print(name, end=" ", flush=True)
    try:
        found = read(eval(page).encode("utf-8", "surrogateescape"))
        if isinstance(found, Document):
            bands_of(found)
            split(found, ChunkPolicy(), "https://example.com/")
        print(type(found).__name__, flush=True)
    except (GleanerError, TimeoutError) as error:
        print(type(error).__name__, flush=True)
"""


@pytest.fixture(scope="module")
def outcome() -> dict[str, str]:
    # In a process of its own: what goes wrong here may be an endless loop in C or a crash of the parser.
    program = READ.format(words=WORDS, article=ARTICLE, pages=PAGES)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=540, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]
    return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", PAGES)
def test_hostile_page_ends(name: str, outcome: dict[str, str]) -> None:
    expected = {
        "open comments": "NotContent",
        "open tags": "NotContent",
        "open brackets": "NotContent",
        "deep menus": "NotContent",
        "ends of nothing": "UnreadablePageError",
        "title": "NotContent",
    }
    assert outcome[name] == expected.get(name, "Document")
