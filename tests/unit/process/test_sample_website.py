from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from bs4 import BeautifulSoup

from include.gleaner.local.website import SampleWebsite
from include.gleaner.models import Document, NotContent
from tests.support.documents import blocks_of, document, read, text_of

WORD = re.compile(r"[\w‌]+")
SURROUNDING = [
    *("We use cookies", "Accept all", "Basket (0)", "made up for this sample", "Press kit", "Prices include VAT."),
    *("ما از کوکی‌ها برای", "پذیرفتن همه", "شرکتی خیالی", "قیمت‌ها با مالیات بر ارزش افزوده است"),
]
PATHS = sorted(SampleWebsite().pages)


@pytest.fixture(scope="module")
def website() -> Iterator[SampleWebsite]:
    with SampleWebsite() as site:
        yield site


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/events"])
def test_page_is_its_own_text_and_no_more(path: str, website: SampleWebsite) -> None:
    page = document(website.answer(path)[2])
    text = text_of(page)
    soup = BeautifulSoup(website.pages[path].content, "lxml")
    own = soup.get_text(" ")
    for menu in soup.find_all("ul"):  # a list of nothing but links is a menu wherever it stands
        if menu.get_text(" ").split() == " ".join(link.get_text(" ") for link in menu.find_all("a")).split():
            menu.decompose()
    said = soup.get_text(" ")
    missing = Counter(WORD.findall(said)) - Counter(WORD.findall(text))
    assert not missing
    added = Counter(WORD.findall(text)) - Counter(WORD.findall(own))
    # Numbers are those of ordered lists, dashes those below the heads of tables.
    assert not [word for word in added if not word.isdecimal()]
    assert not [phrase for phrase in SURROUNDING if phrase in text]
    assert page.language == website.pages[path].language
    assert page.title == BeautifulSoup(website.pages[path].content, "lxml").h1.get_text()  # type: ignore[union-attr]


@pytest.mark.parametrize("path", PATHS)
def test_code_of_the_page_is_verbatim(path: str, website: SampleWebsite) -> None:
    expected = [tag.get_text() for tag in BeautifulSoup(website.pages[path].content, "lxml").find_all("pre")]
    found = read(website.answer(path)[2])
    blocks = blocks_of(found) if isinstance(found, Document) else []
    assert [block.text for block in blocks if block.kind == "code"] == expected


def test_the_page_of_events_is_empty(website: SampleWebsite) -> None:
    assert read(website.answer("/events")[2]) == NotContent(reason="empty")


def test_a_page_that_is_missing_is_a_soft_404(website: SampleWebsite) -> None:
    assert read(website.answer("/press-kit")[2]) == NotContent(reason="soft_404")


def test_facts_of_the_shop(website: SampleWebsite) -> None:
    facts = {path: document(website.answer(path)[2]).facts for path in PATHS if path != "/events"}
    (drip,) = facts["/products/drip-4"]
    assert (drip.title, drip.data["price"], drip.data["currency"]) == ("Drip 4 controller", "129.00", "EUR")
    kinds = {path: {fact.kind for fact in found} for path, found in facts.items() if found}
    assert all("product" in found for path, found in kinds.items() if "/products/" in path)
    assert kinds["/help/faq"] == kinds["/fa/help/faq"] == {"faq"}
