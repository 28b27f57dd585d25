"""Facts that a page publishes for machines: JSON-LD and microdata with the vocabulary of schema.org.

Broken JSON is passed over.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from bs4 import BeautifulSoup

from include.gleaner.models import Fact
from include.gleaner.process.microdata import shown_text
from include.gleaner.process.tree import parse
from include.gleaner.text import display, strip_binary

Record = Mapping[str, Any]

_MAX_SCRIPTS: Final = 50
_MAX_RECORDS: Final = 500
_MAX_FACTS: Final = 200
_MAX_SCRIPT: Final = 2_000_000  # characters
_WRAPPING: Final = re.compile(r"^\s*(?:<!--|//\s*<!\[CDATA\[|<!\[CDATA\[)|(?:-->|//\s*\]\]>|\]\]>)\s*;?\s*$")
_PRODUCTS: Final = frozenset(("Product", "ProductGroup", "IndividualProduct", "ProductModel"))
_FURNITURE: Final = frozenset((
    "FAQPage", "Question", "BreadcrumbList", "ListItem", "WebSite", "WebPage", "SearchAction", "ImageObject", "Offer",
    "SiteNavigationElement", "WPHeader", "WPFooter", "WPSideBar", "ItemList", "CollectionPage",
))  # fmt: skip
_MAX_OTHERS: Final = 20
_MAX_PROPERTIES: Final = 30
_MAX_TYPE: Final = 100  # characters
_MAX_NAME: Final = 1_000  # characters of a name that stands above each part of its text
_SCHEMA: Final = re.compile(r"^https?://schema\.org/", re.I)
_LABELS: Final = {
    "en": {"brand": "Brand", "price": "Price", "availability": "Availability", "sku": "SKU"},
    "fa": {"brand": "برند", "price": "قیمت", "availability": "موجودی", "sku": "شناسهٔ کالا"},
}


def records_of(soup: BeautifulSoup) -> list[Record]:
    """Every top-level JSON-LD record: list members and members of @graph and mainEntity each count as one."""
    records: list[Record] = []
    for script in soup.find_all("script", limit=5_000):
        if "ld+json" not in str(script.attrs.get("type") or "").lower():
            continue
        text = script.get_text()
        if len(text) <= _MAX_SCRIPT:
            records.extend(flat(_parsed(text)))
        if len(records) >= _MAX_RECORDS:
            break
    return records[:_MAX_RECORDS]


def facts_of(records: Iterable[Record], language: str) -> tuple[Fact, ...]:
    """FAQ entries and products, each once, in the page's order."""
    facts: dict[tuple[str, str], Fact] = {}
    for record in records:
        kinds = _types(record)
        found: Iterable[Fact] = ()
        if "FAQPage" in kinds:
            found = _questions(record)
        elif kinds & _PRODUCTS:
            found = _product(record, _LABELS.get(language, _LABELS["en"]))
        for fact in found:
            facts.setdefault((fact.kind, fact.title), fact)
            if len(facts) >= _MAX_FACTS:
                return tuple(facts.values())
    return tuple(facts.values())


def others_of(records: Iterable[Record]) -> list[dict[str, Any]]:
    """What else is published: an event, a shop with its hours, a recipe. Plain values by property, as far as they are.

    What is nested is kept to one level; pages, sites and their navigation tell nothing here.
    """
    found: list[dict[str, Any]] = []
    for record in records:
        kinds = _types(record)
        if kinds and not kinds & (_PRODUCTS | _FURNITURE) and len(found) < _MAX_OTHERS:
            kept = {"type": sorted(kinds)[0], **_kept(record, nested=True)}
            if len(kept) > 1 and kept not in found:
                found.append(kept)
    return found


def _kept(record: Record, *, nested: bool) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in list(record.items())[:_MAX_PROPERTIES]:
        values = value if isinstance(value, list) else [value]
        plain = [text for item in values[:_MAX_PROPERTIES] if (text := _scalar(item))]
        parts = _dicts(values[:_MAX_PROPERTIES]) if nested else []
        told: list[Any] = plain or [inner for part in parts if (inner := _kept(part, nested=False))]
        if told and not name.startswith("@"):
            kept[display(name)[:60]] = told[0] if len(told) == 1 else told
    return kept


def _parsed(text: str) -> Any:
    try:
        return json.loads(_WRAPPING.sub("", text), strict=False, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def flat(value: Any) -> Iterator[Record]:
    """The records in `value`: members of lists, of @graph and of mainEntity each count as one."""
    pending = [value]
    seen = 0
    while pending and seen < _MAX_RECORDS:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(reversed(item))
        elif isinstance(item, dict):
            seen += 1
            yield item
            # The questions of a FAQPage are read with it, not as records of their own.
            inside = [item.get("@graph"), None if "FAQPage" in _types(item) else item.get("mainEntity")]
            pending.extend(part for part in reversed(inside) if isinstance(part, list | dict))


def _types(record: Record) -> set[str]:
    value = record.get("@type")
    names = value[:_MAX_PROPERTIES] if isinstance(value, list) else [value]
    # A name is shown text like any other: with a NUL or half a surrogate pair in it no document could be stored.
    return {_SCHEMA.sub("", display(name))[:_MAX_TYPE] for name in names if name and isinstance(name, str)} - {""}


def _questions(page: Record) -> Iterator[Fact]:
    for question in _dicts(page.get("mainEntity"))[:_MAX_RECORDS]:
        title = _plain(question.get("name"))
        answers = [
            _plain(answer.get("text"))
            for answer in _dicts(question.get("acceptedAnswer") or question.get("suggestedAnswer"))
        ]
        answer = "\n\n".join(text for text in answers if text)
        if title and answer:
            yield Fact(
                kind="faq",
                title=title[:_MAX_NAME],
                text=f"{title}\n\n{answer}",
                data={"question": title, "answer": answer},
            )


def _product(record: Record, labels: Mapping[str, str]) -> Iterator[Fact]:
    name = _plain(record.get("name"))
    if not name:
        return
    holders = [record, *_dicts(record.get("hasVariant"))]
    offer = next((offer for holder in holders for offer in _dicts(holder.get("offers"))), {})
    specification = next(iter(_dicts(offer.get("priceSpecification"))), {})
    brand = record.get("brand")
    found = {
        "brand": _scalar(brand.get("name") if isinstance(brand, dict) else brand),
        "price": _first(offer, specification, "price") or _scalar(offer.get("lowPrice")),
        "high_price": _scalar(offer.get("highPrice")),
        "currency": _first(offer, specification, "priceCurrency"),
        "availability": _SCHEMA.sub("", _scalar(offer.get("availability"))),
        "sku": _scalar(record.get("sku") or offer.get("sku") or record.get("mpn")),
        "description": _plain(record.get("description")),
    }
    data = {"name": name, **{key: value for key, value in found.items() if value}}
    yield Fact(kind="product", title=name[:_MAX_NAME], text=_product_text(data, labels), data=data)


def _product_text(data: Mapping[str, str], labels: Mapping[str, str]) -> str:
    lines = [data["name"]]
    price = data.get("price", "")
    if price:
        high = data.get("high_price", "")
        price = f"{price} – {high}" if high and high != price else price
        price = f"{price} {data.get('currency', '')}".strip()
    shown = {
        "brand": data.get("brand", ""),
        "price": price,
        # "InStock" is how the vocabulary writes it, "in stock" how people do.
        "availability": re.sub(r"(?<=[a-z])(?=[A-Z])", " ", data.get("availability", "")).lower(),
        "sku": data.get("sku", ""),
    }
    lines += [f"{labels[key]}: {value}" for key, value in shown.items() if value]
    text = "\n".join(lines)
    return f"{text}\n\n{data['description']}" if "description" in data else text


def _first(offer: Record, specification: Record, key: str) -> str:
    return _scalar(offer.get(key)) or _scalar(specification.get(key))


def _dicts(value: Any) -> list[Record]:
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]


def _scalar(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float) and not math.isfinite(value):  # 1e400
        return ""
    return display(str(value))[:500]


def _plain(value: Any) -> str:
    """Text without the HTML that answers and descriptions often carry; lists stay lists, paragraphs paragraphs."""
    if not isinstance(value, str):
        return _scalar(value)
    if "<" not in value and "&" not in value:
        return "\n".join(line for part in value.split("\n") if (line := display(part)))
    # JSON can hold what no page can: "\\ud800" is a lone surrogate, and the parser takes none.
    page = parse(f"<body>{strip_binary(value)[0]}")
    return shown_text(page)
