"""What a page says about itself in its head: title, description, canonical address, dates, author, language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from bs4 import BeautifulSoup, Tag

from include.gleaner.process.inline import inline_text
from include.gleaner.text import display

_MAX_TITLE: Final = 300
_MAX_TEXT: Final = 1_000
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


def head_of(soup: BeautifulSoup, records: Sequence[Mapping[str, Any]], url: str) -> Head:
    """Everything the head and the JSON-LD `records` tell; `url` is where the page was fetched."""
    metas = _metas(soup)
    articles = [record for record in records if _is_article(record.get("@type"))]
    titles = [metas.get("og:title", ""), _text(_window_title(soup))]
    headlines = [inline_text(tag)[0] for tag in soup.find_all("h1", limit=5)]
    headline = next((text for text in headlines if text), "")
    html = soup.html
    language = str(html.attrs.get("lang") or html.attrs.get("xml:lang") or "") if html is not None else ""
    found = {
        "canonical": _canonical(soup, metas, url),
        "published": _date(
            [metas.get("article:published_time", ""), *_values(articles, "datePublished"), metas.get("date", "")]
        ),
        "modified": _date([metas.get("article:modified_time", ""), *_values(articles, "dateModified")]),
        "author": _author([*_values(articles, "author"), metas.get("author", "")]),
        "site": metas.get("og:site_name", ""),
    }
    return Head(
        title=_title(titles, headline if len(headlines) == 1 else "", found["site"]),
        headline=headline[:_MAX_TITLE],
        description=(metas.get("description") or metas.get("og:description", ""))[:_MAX_TEXT],
        language=language or metas.get("content-language", ""),
        is_article=bool(articles) or metas.get("og:type", "").lower() == "article" or "article:published_time" in metas
        or soup.find(attrs={"itemprop": "articleBody"}) is not None,
        metadata={key: value for key, value in found.items() if value},
    )  # fmt: skip


def _is_article(kind: object) -> bool:
    return any(_ARTICLE_TYPES.fullmatch(str(name)) for name in (kind if isinstance(kind, list) else [kind]))


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
    """The heading when the window's title repeats it; else the title without the site's name at its end."""
    titles = [title for title in titles if title]
    if headline and (not titles or any(headline.casefold() in title.casefold() for title in titles)):
        return headline[:_MAX_TITLE]
    if not titles:
        return ""
    title = titles[0]
    parts = _SEPARATOR.split(title)
    if len(parts) > 1 and site and parts[-1].casefold() == site.casefold():
        title = title[: title.rindex(parts[-1])].rstrip(" |–—·»:-")
    return title[:_MAX_TITLE]


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


def _window_title(soup: BeautifulSoup) -> Tag | None:
    """The page's <title>; pictures in SVG have one too."""
    return next((tag for tag in soup.find_all("title", limit=20) if tag.find_parent("svg") is None), None)


def _text(tag: Tag | None) -> str:
    return display(tag.get_text()) if tag is not None else ""
