"""The sample website: its pages are whole, lead to each other, and hold the answers that are asked of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from lxml import etree, html

from include.gleaner.local.website import SampleWebsite
from tests.support.sample_client import ask

DEAD_LINK = "/press-kit"  # on purpose: a crawl has to meet a 404
EMPTY_PAGE = "/events"  # on purpose: navigation and footer only
PAGES = sorted(SampleWebsite().pages)
QUESTIONS: list[dict[str, Any]] = json.loads(
    files("include.gleaner.local").joinpath("site/questions.json").read_text("utf-8")
)


@pytest.fixture(scope="module")
def site() -> Iterator[SampleWebsite]:
    with SampleWebsite() as website:
        yield website


@cache
def tree(site: SampleWebsite, path: str) -> html.HtmlElement:
    return html.document_fromstring(ask(site, path)[2].decode("utf-8"))


def main_text(site: SampleWebsite, path: str) -> str:
    (main,) = tree(site, path).iter("main")
    return " ".join(main.text_content().split())


def test_there_are_sixteen_english_and_eight_persian_pages_with_content() -> None:
    content = [path for path in PAGES if path != EMPTY_PAGE]
    assert len([path for path in content if path.startswith("/fa/")]) == 8
    assert len([path for path in content if not path.startswith("/fa/")]) >= 16


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_whole(site: SampleWebsite, path: str) -> None:
    status, headers, _ = ask(site, path)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    page = tree(site, path)
    is_persian = path.startswith("/fa/")
    assert (page.get("lang"), page.get("dir")) == (("fa", "rtl") if is_persian else ("en", None))
    assert page.xpath("//link[@rel='canonical']/@href") == [urljoin(site.url, path)]
    other = site.pages[path].other
    versions = {("en", path), ("fa", other)} if not is_persian else {("fa", path), ("en", other)}
    alternates = {(link.get("hreflang"), link.get("href")) for link in page.xpath("//link[@rel='alternate']")}
    assert alternates == ({(language, urljoin(site.url, there)) for language, there in versions} if other else set())
    assert not other or site.pages[other].other == path  # the other one knows of this one
    assert page.xpath("count(//nav)") >= 1
    assert page.xpath("count(//footer)") == 1
    assert page.xpath("count(//*[@class='cookie-banner'])") == 1
    assert len(page.xpath("//main//h1")) == (0 if path == EMPTY_PAGE else 1)
    words = len(" ".join(page.find(".//main").itertext()).split())
    assert words == 0 if path == EMPTY_PAGE else 150 <= words <= 500


def test_every_internal_link_leads_somewhere_but_one(site: SampleWebsite) -> None:
    dead = set()
    for path in PAGES:
        for href in tree(site, path).xpath("//a/@href | //link/@href"):
            target = urlsplit(urljoin(site.url + path.lstrip("/"), href))
            if target.netloc != urlsplit(site.url).netloc or target.path.startswith("/cart/"):
                continue  # another host, an address for mail, or what robots.txt forbids
            status, headers, _ = ask(site, target._replace(scheme="", netloc="", fragment="").geturl())
            if status == 301:
                status = ask(site, urlsplit(headers["Location"]).path)[0]
            if status != 200:
                dead.add(target.path)
    assert dead == {DEAD_LINK}


@pytest.mark.parametrize("path", [path for path in PAGES if path != "/"])
def test_every_page_is_found_by_its_links(site: SampleWebsite, path: str) -> None:
    linked = {urlsplit(href).path for other in PAGES if other != path for href in tree(site, other).xpath("//a/@href")}
    assert path in linked


@pytest.mark.parametrize("path", PAGES)
def test_json_ld_says_what_the_page_says(site: SampleWebsite, path: str) -> None:
    found = [json.loads(text) for text in tree(site, path).xpath("//script[@type='application/ld+json']/text()")]
    kinds = [item["@type"] for item in found]
    assert kinds == (["Product"] if "/products/" in path else ["FAQPage"] if path.endswith("/faq") else [])
    for item in found:
        text = main_text(site, path)
        for entry in item.get("mainEntity", []):
            assert entry["name"] in text
            assert entry["acceptedAnswer"]["text"] in text
        if item["@type"] == "Product":
            amount = item["offers"]["price"].removesuffix(".00")
            persian = amount.translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹"))
            assert f"€ {amount}" in text or f"{persian} یورو" in text


@pytest.mark.parametrize("item", QUESTIONS, ids=lambda item: item["contains"])
def test_the_answer_to_a_question_is_on_its_page(site: SampleWebsite, item: dict[str, Any]) -> None:
    assert item["contains"] in main_text(site, item["page"])
    assert item["language"] == ("fa" if item["page"].startswith("/fa/") else "en")


def test_three_questions_are_asked_at_the_end_of_a_run() -> None:
    assert len(QUESTIONS) >= 12
    assert sorted(item["language"] for item in QUESTIONS if item.get("sample")) == ["en", "en", "fa"]


def test_sitemap_and_robots_name_the_real_origin(site: SampleWebsite) -> None:
    robots = ask(site, "/robots.txt")[2].decode()
    assert "Disallow: /cart/" in robots
    assert f"Sitemap: {site.url}sitemap.xml" in robots
    _, headers, body = ask(site, "/sitemap.xml")
    assert headers["Content-Type"] == "application/xml; charset=utf-8"
    found = etree.fromstring(body).xpath("//*[local-name()='loc']/text()")
    assert sorted(found) == sorted(urljoin(site.url, path) for path in PAGES)
