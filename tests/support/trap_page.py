"""A website whose every page tries to run a script in the browser of whoever looks at what was stored of it."""

from __future__ import annotations

import html
import json
from typing import Final
from urllib.parse import quote

from tests.support.website import Route

MARK: Final = "window.top.pwned=window.pwned=1"
TAGS: Final = (
    f"<script>{MARK}</script>",
    f'<img src=x onerror="{MARK}">',
    f'<svg onload="{MARK}"><a xlink:href="javascript:{MARK}">harmless</a></svg>',
    f'<iframe srcdoc="<script>{MARK}</script>"></iframe>',
    f'<a href="javascript:{MARK}">harmless</a>',
    '<base href="https://elsewhere.example/"><meta http-equiv="refresh" content="0;url=https://elsewhere.example/">',
    '<style>@import "https://elsewhere.example/x.css"</style><link rel=stylesheet href="https://elsewhere.example/y.css">',
    "</textarea></title></script></pre><script>" + MARK + "</script>",
    "{{constructor.constructor('" + MARK + "')()}} ${" + MARK + "} <!--#exec cmd=ls -->",
    "\u202e\u2066 harmless, the other way round \u2069\u202c",
)
PATHS: Final = (
    "/trap/" + quote("<script>window.pwned=1</script>"),
    "/trap/?q=" + quote("\"'><img src=x onerror=window.pwned=1>"),
    "/trap/" + quote("javascript:window.pwned=1"),
)


def trap_routes() -> dict[str, Route]:
    """A start page and three traps: tags as tags, and tags as the text that a page about HTML would show."""
    text = " ".join(html.escape(tag) for tag in TAGS)
    shown = "".join(
        f"<h2>{html.escape(tag)}</h2><p>A harmless sentence beside {html.escape(tag)} here.</p>" for tag in TAGS
    )
    records = [
        {"@context": "https://schema.org", "@type": "Product", "name": TAGS[1], "description": TAGS[0],
         "url": f"javascript:{MARK}", "image": f"javascript:{MARK}",
         "offers": {"@type": "Offer", "price": "1", "priceCurrency": TAGS[1]}},
        {"@context": "https://schema.org", "@type": "FAQPage", "mainEntity": [
            {"@type": "Question", "name": TAGS[4], "acceptedAnswer": {"@type": "Answer", "text": text}}]},
    ]  # fmt: skip
    published = json.dumps(records).replace("</", "<\\/")
    page = (
        f'<!doctype html><html lang="en"><head><title>{text}</title><meta name="description" content="{text}">'
        f'<meta name="author" content="{html.escape(TAGS[1])}"><link rel="icon" href="javascript:{MARK}">'
        f'<script type="application/ld+json">{published}</script></head><body onload="{MARK}"><main>'
        f"<h1>{text}</h1>{shown}<pre><code>{text}</code></pre>{''.join(TAGS[:5])}"
        f"<p>This page is harmless, if it is read as text. It says so in a whole sentence of its own: number %d.</p>"
        f"<ul>{''.join(f'<li><a href={json.dumps(html.escape(path))}>{text}</a></li>' for path in PATHS)}</ul>"
        f"</main>{TAGS[0]}</body></html>"
    )
    return {path: page.replace("%d", str(number)) for number, path in enumerate(("/", *PATHS))}
