from __future__ import annotations

import json

import pytest

from include.gleaner.chunk.splitter import split
from include.gleaner.config import ChunkPolicy
from include.gleaner.process import language
from include.gleaner.process.records import document_from_json, document_to_json
from tests.support.documents import blocks_of, document

ENGLISH = (
    "The controller waters the garden in the morning, and it stops as soon as it rains. Batteries last for a season."
)
PERSIAN = "کتاب‌ها را می‌خوانیم و دربارهٔ آن‌ها گفت‌وگو می‌کنیم. این کتابخانه هر روز از ساعت نه تا پنج باز است."
ARABIC = "هذا الكتاب يتحدث عن الحدائق والمياه في المدينة القديمة وكيف يعيش الناس فيها كل يوم."
ARABIC_KEYS = PERSIAN.replace("ی", "ي").replace("ک", "ك")  # Persian as typed on an Arabic keyboard
URDU = "یہ کتاب باغوں اور پانی کے بارے میں ہے اور ہم اسے ہر روز پڑھتے ہیں۔ یہ بہت اچھی ہے۔"
GERMAN = "Das Steuergerät bewässert den Garten am Morgen und hört auf, sobald es regnet. Die Batterien halten lange."


@pytest.mark.parametrize(
    ("stated", "text", "expected"),
    [
        ("en", ENGLISH, "en"),
        ("", ENGLISH, "en"),
        ("en-GB", ENGLISH, "en"),
        ("en", PERSIAN, "fa"),  # a template's "en" on a Persian page
        ("", PERSIAN, "fa"),
        ("fa-IR", PERSIAN, "fa"),
        ("fa", ARABIC_KEYS, "fa"),
        ("", ARABIC, "ar"),
        ("fa", ARABIC, "ar"),
        ("ar", PERSIAN, "fa"),
        ("", URDU, "ur"),
        ("en", GERMAN, "de"),
        ("de_AT", GERMAN, "de"),
        ("", "12 34 56 — 78 % 9", "und"),
        ("und", "12 34 56", "und"),
        ("fa", "12 34 56", "fa"),
        ("no such", ENGLISH, "en"),
    ],
)
def test_language(stated: str, text: str, expected: str) -> None:
    assert document(f'<html lang="{stated}"><body><p>{text}</p>').language == expected


def test_plain_english_is_known_without_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"{ENGLISH} From the shed you carry the water to the roses, and for this you need a can with a rose."
    dutch = (
        "Met de knop Start for the first time opent u het menu. Deze handleiding legt uit hoe u de pomp aansluit, welke"
        " kabels u nodig hebt en hoe u de accu oplaadt. Lees ook de tekst and follow the steps op de doos."
    )
    assert document(f"<p>{dutch}").language == "nl"
    # "is", "by", "of", "as" and "was" are Afrikaans, too.
    afrikaans = (
        "Die pomp is by die tuin of die skuur, en was vroeër by die rivier. As die water koud is, is dit beter te wag. "
        "Dit is maklik om die batterye by die kas te laai, of om hulle in die son te sit as daar geen krag is nie."
    )
    assert document(f"<p>{afrikaans}").language == "af"
    monkeypatch.setattr(language, "_guesses", lambda _: pytest.fail("the model was asked"))
    assert document(f"<p>{text}").language == "en"


def test_code_does_not_decide_the_language() -> None:
    code = "<pre>for index in range(10): print(index) # the words of code are English</pre>" * 20
    assert document(f"<body><p>{PERSIAN}</p>{code}").language == "fa"


@pytest.mark.parametrize(
    ("head", "body", "title"),
    [
        ("<title>Drip 4 · Brook</title>", "<h1>Drip 4</h1>", "Drip 4"),
        ('<title>Drip 4 | Brook</title><meta property="og:site_name" content="Brook">', "", "Drip 4"),
        ("<title>Drip\n  4 &amp; more</title>", "", "Drip 4 & more"),
        ("<title>git-add(1)</title>", "<h1>git-add(1) Manual Page</h1>", "git-add(1) Manual Page"),
        ("<title>Brook</title>", "<h1>Drip lines for Brooklyn</h1>", "Brook"),
        ('<title>x</title><meta property="og:title" content="Drip 4">', "", "Drip 4"),
        ("", "<h1>Drip <i>4</i></h1>", "Drip 4"),
        ("", "<h2>Drip 4</h2>", "Drip 4"),
        ("<svg><title>Icon</title></svg>", "<h1>Drip 4</h1>", "Drip 4"),
    ],
)
def test_title(head: str, body: str, title: str) -> None:
    assert document(f"<html><head>{head}</head><body>{body}<p>{ENGLISH}</p>").title == title


def test_metadata() -> None:
    record = {
        "@type": ["NewsArticle", "Thing"],
        "datePublished": "2026-01-02T03:04:05Z",
        "author": [{"name": "A. Writer"}],
    }
    page = document(f"""<html><head><title>T</title><link rel="canonical" href="../page?x=1">
        <meta name="description" content=" Two \n words "><meta property="article:modified_time" content="2026-02-03">
        <meta property="og:site_name" content="Brook">
        <script type="application/ld+json">{json.dumps(record)}</script></head><body><p>{ENGLISH}</p>""")
    assert page.description == "Two words"
    assert page.metadata == {
        "canonical": "https://example.com/page?x=1",
        "published": "2026-01-02T03:04:05Z",
        "modified": "2026-02-03",
        "author": "A. Writer",
        "site": "Brook",
        "records": [{"type": "NewsArticle", "datePublished": "2026-01-02T03:04:05Z", "author": {"name": "A. Writer"}}],
    }


@pytest.mark.parametrize("href", ["javascript:alert(1)", "", "http://[", "data:text/html,x", "mailto:a@b.c"])
def test_no_canonical_that_is_no_web_address(href: str) -> None:
    assert "canonical" not in document(f'<link rel=canonical href="{href}"><body><p>{ENGLISH}</p>').metadata


def test_a_long_block_in_another_language_says_so() -> None:
    page = document(
        f"<html lang=en><main><h1>Safety</h1><p>{ENGLISH * 9}<h2>German</h2><p>{GERMAN * 3}<p>Kurz.</main>".encode()
    )
    assert page.language == "en"
    assert [block.language for block in blocks_of(page)] == [None, "de", None]
    assert document_from_json(document_to_json(page)) == page
    chunks = split(page, ChunkPolicy(max_tokens=150), "")
    assert {(chunk.language, "Steuergerät" in chunk.full_text) for chunk in chunks} == {("en", False), ("de", True)}


def test_what_most_of_the_page_is_in_counts_more_than_how_it_begins() -> None:
    labels = "".join(f"<p>The name of the part with number {number}, and its place" for number in range(60))
    long = "".join(f"<p>{GERMAN * 3}" for _ in range(8))
    page = document(f"<html lang=en><main><h1>Parts</h1>{labels}{long}</main>".encode())
    assert page.language == "de"
    assert {block.language for block in blocks_of(page)} == {None}


def test_what_most_of_the_page_is_in_counts_more_than_what_its_template_says() -> None:
    page = document(f"<html lang=en><main><h1>useEffect</h1><p>{GERMAN * 3}<p>{GERMAN * 4}</main>".encode())
    assert page.language == "de"
    assert {block.language for block in blocks_of(page)} == {None}
