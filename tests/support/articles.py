"""Small websites of one article a page."""

from __future__ import annotations

from typing import Any, Final

from tests.support.website import page

NAMES: Final = ("apples", "pears", "plums", "figs")


def article(name: str) -> str:
    return f"The article about {name} says what everybody should know about {name}, and nothing else."


def website(*names: str) -> dict[str, Any]:
    return {"/": page("Welcome to the home page of the example company.", *[f"/{name}" for name in names])} | {
        f"/{name}": page(article(name)) for name in names
    }
