"""What a page says about itself in its head: title, description, canonical address, dates, author, language."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from bs4 import BeautifulSoup

from include.gleaner.process.inline import inline_text
from include.gleaner.process.tree import Node, Page
from include.gleaner.text import display

_MAX_TITLE: Final = 300
_MAX_TEXT: Final = 1_000
_MAX_ELEMENTS: Final = 5_000
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?")
_SEPARATOR: Final = re.compile(r"\s+[|–—·»:-]\s+|\s*[|»·—]\s*")
_ARTICLE_TYPES: Final = re.compile(r"(?:\w*Article|BlogPosting|Report)")


@dataclass(frozen=True, kw_only=True)
class Head:
    title: str = ""  # of <title>, og:title or the only <h1>, without the site's name
    headline: str = ""  # the page's first <h1>
    description: str = ""
    language: str = ""  # of <html lang> as written
    is_article: bool = False  # it says that it is one: news, blog post, report
    metadata: Mapping[str, str] = field(default_factory=dict)  # canonical, published, modified, author, site, image


@dataclass(frozen=True, kw_only=True)
class Published:
    """What stands on a page for machines, and the few elements that tell what it is."""

    soup: BeautifulSoup  # <title>, <meta>, <link> and JSON-LD, and nothing else of the page
    headlines: tuple[Node, ...]  # the first <h1>
    language: str  # of <html>
    has_article_body: bool


def published(page: Page) -> Published:
    """Beautiful Soup reads what machines are told, and not the hundred times as much around it."""
    markup: list[str] = []
    headlines: list[Node] = []
    language = ""
    has_article_body = False
    for tag in page.telling:
        name = tag.name
        if name in ("meta", "title") or (name == "link" and "canonical" in tag.attrs.get("rel", "").lower()):
            markup.append(_markup(tag))
        elif name == "script":
            if "ld+json" in tag.attrs.get("type", "").lower():
                markup.append(f'<script type="application/ld+json">{"".join(map(str, tag.contents))}</script>')
        elif name == "h1":
            headlines.append(tag)
        elif name == "html" and not language:
            language = tag.attrs.get("lang") or tag.attrs.get("xml:lang") or ""
        if not has_article_body and tag.attrs.get("itemprop") == "articleBody":
            has_article_body = True
    soup = BeautifulSoup("".join(markup[:_MAX_ELEMENTS]), "lxml", multi_valued_attributes=None)
    return Published(soup=soup, headlines=tuple(headlines[:5]), language=language, has_article_body=has_article_body)


def _markup(tag: Node) -> str:
    attributes = "".join(f' {name}="{html.escape(value)}"' for name, value in tag.attrs.items())
    text = f"{html.escape(tag.text())}</{tag.name}>" if tag.name == "title" else ""
    return f"<{tag.name}{attributes}>{text}"


def head_of(
    found: Published, records: Sequence[Mapping[str, Any]], url: str, items: Sequence[Mapping[str, Any]] = ()
) -> Head:
    """Everything that the head, JSON-LD `records` and microdata `items` tell; `url` is where the page was fetched."""
    soup = found.soup
    metas = _metas(soup)
    articles = [record for record in records if _is_article(record.get("@type"))]
    told = [*articles, *(item for item in items if _is_article(item.get("@type")))]
    window = soup.find("title")
    titles = [metas.get("og:title", ""), display(window.get_text()) if window is not None else ""]
    headlines = [inline_text(tag)[0] for tag in found.headlines]
    headline = next((text for text in headlines if text), "")
    facts = {
        "canonical": _canonical(soup, metas, url),
        "published": _date(
            [metas.get("article:published_time", ""), *_values(told, "datePublished"), metas.get("date", "")]
        ),
        "modified": _date([metas.get("article:modified_time", ""), *_values(told, "dateModified")]),
        "author": _author([*_values(told, "author"), metas.get("author", "")]),
        "site": metas.get("og:site_name", ""),
    }
    return Head(
        title=_title(titles, headline if len(headlines) == 1 else "", facts["site"]),
        headline=headline[:_MAX_TITLE],
        description=(metas.get("description") or metas.get("og:description", ""))[:_MAX_TEXT],
        language=found.language or metas.get("content-language", ""),
        is_article=bool(articles) or metas.get("og:type", "").lower() == "article" or "article:published_time" in metas
        or found.has_article_body,
        metadata={key: value for key, value in facts.items() if value},
    )  # fmt: skip


def _is_article(kind: object) -> bool:
    kinds = kind if isinstance(kind, list) else [kind]
    return any(_ARTICLE_TYPES.fullmatch(str(name).rpartition("/")[2]) for name in kinds)


def _metas(soup: BeautifulSoup) -> dict[str, str]:
    """<meta> by lower-case name; the first one with a value counts."""
    metas: dict[str, str] = {}
    for tag in soup.find_all("meta"):
        name = (
            str(tag.attrs.get("name") or tag.attrs.get("property") or tag.attrs.get("http-equiv") or "").strip().lower()
        )
        value = display(str(tag.attrs.get("content") or ""))
        if name and value and name not in metas:
            metas[name] = value[:_MAX_TEXT]
    return metas


def _title(titles: Iterable[str], headline: str, site: str) -> str:
    """The heading when it and the window's title say the same; else the title without the site's name at its end."""
    titles = [title for title in titles if title]
    if headline and (not titles or any(_repeats(title, headline) for title in titles)):
        return headline[:_MAX_TITLE]
    if not titles:
        return ""
    title = titles[0]
    parts = _SEPARATOR.split(title)
    if len(parts) > 1 and site and parts[-1].casefold() == site.casefold():
        title = title[: title.rindex(parts[-1])].rstrip(" |–—·»:-")
    return title[:_MAX_TITLE]


def _repeats(title: str, headline: str) -> bool:
    """Whether one stands in the other whole, in words: the longer of a page's two names is no second name."""
    window, heading = title.casefold(), headline.casefold()
    return heading in window or re.search(rf"(?<!\w){re.escape(window)}(?!\w)", heading) is not None


def _canonical(soup: BeautifulSoup, metas: Mapping[str, str], url: str) -> str:
    link = next(
        (tag for tag in soup.find_all("link") if str(tag.attrs.get("rel") or "").strip().lower() == "canonical"), None
    )
    href = str(link.attrs.get("href") or "") if link is not None else metas.get("og:url", "")
    try:
        address = urljoin(url, display(href)) if href.strip() else ""
        parts = urlsplit(address)
    except ValueError:
        return ""
    return address if parts.scheme in ("http", "https") and parts.netloc and len(address) <= 2_000 else ""


def _values(records: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    return [record[key] for record in records if record.get(key)]


def _date(candidates: Iterable[Any]) -> str:
    for value in candidates:
        if match := _DATE.match(str(value).strip()):
            return match[0]
    return ""


def _author(candidates: Iterable[Any]) -> str:
    for value in candidates:
        people = value if isinstance(value, list) else [value]
        names = [str(person.get("name") or "") if isinstance(person, Mapping) else str(person) for person in people[:5]]
        if joined := ", ".join(display(name) for name in names if name and "://" not in name):
            return joined[:_MAX_TITLE]
    return ""
