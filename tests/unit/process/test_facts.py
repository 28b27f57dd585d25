from __future__ import annotations

import json

import pytest

from include.gleaner.models import Fact
from tests.support.documents import document, text_of

PRODUCT = {
    "@context": "https://schema.org",
    "@type": "Product",
    "name": "Drip 4",
    "sku": "BB-D4",
    "brand": {"@type": "Brand", "name": "Brook & Bloom"},
    "description": "<p>Four zones.</p><ul><li>USB-C</li></ul>",
    "offers": {"@type": "Offer", "price": 129, "priceCurrency": "EUR", "availability": "https://schema.org/InStock"},
}
FAQ = {
    "@context": "https://schema.org",
    "@type": "FAQPage",
    "mainEntity": [
        {
            "@type": "Question",
            "name": "Is it tight?",
            "acceptedAnswer": {"@type": "Answer", "text": "Yes: <b>IP65</b>."},
        },
        {"@type": "Question", "name": "No answer?"},
    ],
}
DRIP = Fact(
    kind="product",
    title="Drip 4",
    text="Drip 4\nBrand: Brook & Bloom\nPrice: 129 EUR\nAvailability: in stock\nSKU: BB-D4\n\nFour zones.\n- USB-C",
    data={
        "name": "Drip 4",
        "brand": "Brook & Bloom",
        "price": "129",
        "currency": "EUR",
        "availability": "InStock",
        "sku": "BB-D4",
        "description": "Four zones.\n- USB-C",
    },
)
TIGHT = Fact(
    kind="faq",
    title="Is it tight?",
    text="Is it tight?\n\nYes: IP65.",
    data={"question": "Is it tight?", "answer": "Yes: IP65."},
)


def facts(*scripts: object) -> tuple[Fact, ...]:
    texts = [script if isinstance(script, str) else json.dumps(script) for script in scripts]
    head = "".join(f'<script type="application/ld+json">{text}</script>' for text in texts)
    return document(f"<html lang=en><head>{head}</head><body><p>The controller waters the garden.</p>").facts


@pytest.mark.parametrize(
    "scripts",
    [
        [PRODUCT, FAQ],
        [[PRODUCT, FAQ]],
        [{"@context": "https://schema.org", "@graph": [{"@type": "WebSite"}, PRODUCT, FAQ]}],
        [{"@type": "ItemPage", "mainEntity": PRODUCT}, FAQ],
        [{**PRODUCT, "@type": ["Product", "Thing"]}, {**FAQ, "@type": "https://schema.org/FAQPage"}],
        [PRODUCT, FAQ, PRODUCT, FAQ],  # said twice
        [f"<!-- {json.dumps(PRODUCT)} -->", f"//<![CDATA[\n{json.dumps(FAQ)}\n//]]>"],
        ["{ broken", PRODUCT, '{"@type": "Product", "name": "cut', FAQ, "", "null", "[]", "7"],
        [json.dumps(PRODUCT).replace("Four zones.", "Four\nzones."), FAQ],  # a line end inside a string
        [{**PRODUCT, "offers": [{**PRODUCT["offers"], "price": "129"}]}, FAQ],  # type: ignore[dict-item]
        [{"@type": "Event", "name": "Fair"}, PRODUCT, {"@type": "Product"}, FAQ],
    ],
)
def test_products_and_questions(scripts: list[object]) -> None:
    assert facts(*scripts) == (DRIP, TIGHT)


def test_labels_are_in_the_pages_language() -> None:
    head = f'<script type="application/ld+json">{json.dumps(PRODUCT)}</script>'
    page = document(
        f"<html lang=fa><head>{head}</head><body><p>این کنترل‌کننده چهار ناحیه را آبیاری می‌کند و ارزان است.</p>"
    )
    assert "قیمت: 129 EUR" in page.facts[0].text


def test_price_range() -> None:
    offers = {"@type": "AggregateOffer", "lowPrice": "9", "highPrice": "12", "priceCurrency": "EUR"}
    (fact,) = facts({"@type": "Product", "name": "Hose", "offers": offers})
    assert fact.text == "Hose\nPrice: 9 – 12 EUR"


@pytest.mark.parametrize(
    "text",
    [
        '{"@type": "Product", "name": "X", "offers": {"price": 1e400}}',  # infinite: JSON has no such number
        '{"@type": "Product", "name": "X", "offers": {"price": NaN}}',
        '{"@type": "Product", "name": "X", "offers": {"price": true}}',
        '{"@type": "Product", "name": "<b>X\\ud800</b>", "offers": "none"}',  # lone surrogate
        '{"@type": "Product", "name": "X\\u0000", "offers": [[]], "brand": []}',
    ],
)
def test_values_that_cannot_be_stored_are_left_out(text: str) -> None:
    assert facts(text) == (Fact(kind="product", title="X", text="X", data={"name": "X"}),)


def test_deep_json_is_passed_over() -> None:
    assert facts("[" * 100_000, '{"@graph":' * 50_000, PRODUCT, FAQ) == (DRIP, TIGHT)


SHOP = """<body><main><h1>Drip 4</h1><div itemscope itemtype="https://schema.org/Product">
<h2 itemprop="name">Drip 4</h2><span itemprop="brand" itemscope itemtype="https://schema.org/Brand"><b itemprop="name">
Brook &amp; Bloom</b></span><div itemprop="description"><p>Four zones.<ul><li>USB-C</ul></div>
<div itemprop="offers" itemscope itemtype="https://schema.org/Offer"><data itemprop="price" value="129">129,00 €</data>
<meta itemprop="priceCurrency" content="EUR">
<link itemprop="availability" href="https://schema.org/InStock">in stock</div>
<meta itemprop="sku" content="BB-D4"><div itemprop="review" itemscope itemtype="https://schema.org/Review">
<span itemprop="name">Not the product</span></div></div>"""
QUESTIONS = """<html itemscope itemtype="https://schema.org/FAQPage"><body><h1>Help</h1>
<div itemscope itemprop="mainEntity" itemtype="https://schema.org/Question"><h3 itemprop="name">Is it tight?</h3>
<div itemscope itemprop="acceptedAnswer" itemtype="https://schema.org/Answer"><p itemprop="text">Yes: <b>IP65</b>.</div>
</div></body></html>"""


def test_microdata_is_read_as_json_ld_is() -> None:
    assert document(SHOP).facts == (DRIP,)
    assert document(QUESTIONS).facts == (TIGHT,)


def test_a_product_that_is_told_twice_is_one_fact() -> None:
    script = f'<script type="application/ld+json">{json.dumps(PRODUCT)}</script>'
    assert document(script + SHOP).facts == (DRIP,)


def test_microdata_tells_who_wrote_an_article_and_when() -> None:
    page = document("""<body><article itemscope itemtype="http://schema.org/BlogPosting"><h1>Rain</h1>
    <span itemprop="author" itemscope itemtype="http://schema.org/Person"><span itemprop="name">Ada B.</span></span>
    <time itemprop="datePublished" datetime="2024-05-01T10:00:00Z">May Day</time>
    <p>It rains in the garden.</article>""")
    assert page.metadata["author"] == "Ada B."
    assert page.metadata["published"] == "2024-05-01T10:00:00Z"


@pytest.mark.parametrize(
    "markup",
    [
        "<div itemscope itemprop=a>" * 5_000 + "<p>The controller waters the garden.",
        "<div itemscope itemtype='https://schema.org/Product'>" * 3_000 + "<p>The controller waters the garden.",
        "<div itemscope><p>The controller waters the garden." + "<b itemprop='a b c d e f g h'>x</b>" * 20_000,
        "<div itemscope itemtype='https://schema.org/Product'><p itemprop=name>The controller waters the garden."
        "<div itemprop=offers itemscope><b itemprop=price>" + "9" * 100_000 + "</b></div>",
        "<div itemscope itemtype='https://schema.org/FAQPage'><p itemprop=mainEntity>The controller waters the garden.",
    ],
)
def test_hostile_microdata_costs_neither_the_page_nor_much_time(markup: str) -> None:
    assert "The controller waters the garden." in text_of(document(f"<body>{markup}"))


@pytest.mark.parametrize("kind", ["Ev\\u0000ent", "Ev\\ud800ent", "\\u0000", {"Event": "\\u0000"}, 5])
def test_the_name_of_a_type_can_be_stored_whatever_it_holds(kind: object) -> None:
    script = json.dumps({"@type": [kind, "Zoo"], "name": "Opening"}).replace("\\\\u", "\\u")
    read = document(f'<script type="application/ld+json">{script}</script><p>The garden opens.')
    [record] = read.metadata["records"]
    assert record["type"] in ("Event", "Zoo")
    assert record["name"] == "Opening"


def test_what_else_is_published_is_kept_as_metadata() -> None:
    event = {
        "@type": "Event",
        "name": "Open garden",
        "startDate": "2025-05-03",
        "location": {"@type": "Place", "name": "Ghent", "geo": {"@type": "GeoCoordinates", "latitude": 51}},
        "performer": [{"name": "Ada"}, {"name": "Bo"}],
        "keywords": ["soil", "water"],
        "maximumAttendeeCapacity": float("inf"),
    }
    script = (
        f'<script type="application/ld+json">{json.dumps([event, {"@type": "WebSite", "name": "Garden"}])}</script>'
    )
    page = document(f"<head>{script}</head><body><p>The controller waters the garden.</p>")
    assert page.metadata["records"] == [
        {
            "type": "Event",
            "name": "Open garden",
            "startDate": "2025-05-03",
            "location": {"name": "Ghent"},
            "performer": [{"name": "Ada"}, {"name": "Bo"}],
            "keywords": ["soil", "water"],
        }
    ]
    assert page.facts == ()
    assert "records" not in document("<body><p>The controller waters the garden.</p>").metadata


@pytest.mark.parametrize("levels", [50, 800])
def test_records_nested_without_end_cost_nothing(levels: int) -> None:
    told = (
        '{"@type": "Event", "name": "Open garden", "location": '
        + '{"name": "Ghent", "in": ' * levels
        + "1"
        + "}" * levels
    )
    page = document(
        f"<head><script type='application/ld+json'>{told}}}</script></head><body><p>It waters the garden.</p>"
    )
    assert page.metadata["records"] == [{"type": "Event", "name": "Open garden", "location": {"name": "Ghent"}}]
