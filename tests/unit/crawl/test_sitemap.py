from __future__ import annotations

import gzip

import pytest

from include.gleaner.crawl.sitemap import parse_sitemap

URL = "https://example.com/sitemap.xml"
NS = "xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'"


def test_pages_with_priority() -> None:
    body = f"""<?xml version="1.0"?><urlset {NS} xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
    <url><loc> https://example.com/a </loc><priority>0.9</priority>
      <image:image><image:loc>https://example.com/i.png</image:loc></image:image></url>
    <url><loc>/b?utm_source=map</loc><priority>high</priority></url><url><loc>javascript:x</loc></url></urlset>"""
    found = parse_sitemap(body.encode(), url=URL)
    assert found.pages == (("https://example.com/a", 0.9), ("https://example.com/b", 0.5))
    assert parse_sitemap(gzip.compress(body.encode()), url=URL) == found


def test_an_index_names_sitemaps() -> None:
    body = f"<sitemapindex {NS}><sitemap><loc>https://example.com/1.xml.gz</loc></sitemap></sitemapindex>"
    assert parse_sitemap(body.encode(), url=URL).sitemaps == ("https://example.com/1.xml.gz",)


def test_plain_text() -> None:
    found = parse_sitemap(b"https://example.com/a\r\nhttps://example.com/b\nnonsense\n", url=URL)
    assert [url for url, _ in found.pages] == ["https://example.com/a", "https://example.com/b"]


def test_common_mistakes_of_those_who_make_them() -> None:
    entries = "<url><loc>https://example.com/?a=1&b=2&amp;c=3&#38;d=&#x34;</loc></url><url><loc>/آب</loc></url>"
    expected = ["https://example.com/?a=1&b=2&c=3&d=4", "https://example.com/%D8%A2%D8%A8"]
    for head in ('<?xml version="1.0" encoding="utf-16"?>', "\ufeff<?xml version='1.0' encoding='UTF-16' ?>\n", ""):
        body = f"{head}<urlset {NS}>{entries}</urlset>".encode()
        assert [url for url, _ in parse_sitemap(body, url=URL).pages] == expected
    true = f'<?xml version="1.0" encoding="utf-16"?><urlset {NS}>{entries.replace("&b", "&amp;b")}</urlset>'
    assert [url for url, _ in parse_sitemap(true.encode("utf-16"), url=URL).pages] == expected


def test_prefixes_that_nobody_declared() -> None:
    body = f"""<urlset {NS}><url><loc>https://example.com/a</loc><priority>0.9</priority>
      <image:image><image:loc>https://example.com/i.png</image:loc></image:image><news:priority>0.1</news:priority>
      <xhtml:link rel="alternate" hreflang="fa" href="/fa"/></url><a:b:c/><url:><loc:/></url:>
    <url><loc>https://example.com/b</loc></url></urlset>"""
    expected = (("https://example.com/a", 0.9), ("https://example.com/fa", 0.9), ("https://example.com/b", 0.5))
    assert parse_sitemap(body.encode(), url=URL).pages == expected
    bare = body.replace(NS, "").encode()
    assert parse_sitemap(bare, url=URL).pages == expected
    prefixed = b"<s:urlset><s:url><s:loc>/a</s:loc></s:url></s:urlset>"
    assert parse_sitemap(prefixed, url=URL).pages == (("https://example.com/a", 0.5),)


@pytest.mark.parametrize("namespace", ["x}y", "{}", "x&#xd800;y", "}"])
def test_namespaces_that_are_none_trip_nothing(namespace: str) -> None:
    body = f"<urlset {NS}><url><loc>/a</loc></url><b xmlns='{namespace}'><url><loc>/b</loc></url></b></urlset>"
    assert parse_sitemap(body.encode(), url=URL).kind in ("sitemap", "none")


@pytest.mark.parametrize("between", [b"<!--" + b"x" * 2_500_000 + b"-->", b"<x/>" * 1_000_000], ids=["comment", "tags"])
def test_a_file_is_read_no_further_where_no_record_ends_for_too_long(between: bytes) -> None:
    entry = b"<url><loc>/%d</loc></url>"
    found = parse_sitemap(b"<urlset>" + entry % 1 + entry % 2 + between + entry % 3 + b"</urlset>", url=URL)
    assert ([url for url, _ in found.pages], found.is_cut) == (["https://example.com/1"], True)


def test_what_lies_between_records_is_passed_over() -> None:
    junk = b"<x/><!-- y --><?z?>" * 50_000
    body = b"<urlset>" + junk + b"<a><url><loc>/1</loc></url></a>" + junk + b"<url><loc>/2</loc></url></urlset>"
    assert [url for url, _ in parse_sitemap(body, url=URL).pages] == ["https://example.com/1", "https://example.com/2"]


def test_what_comes_before_the_break_counts() -> None:
    body = f"<urlset {NS}><url><loc>https://example.com/a</loc></url><url><loc>https://exa"
    assert parse_sitemap(body.encode(), url=URL).pages == (("https://example.com/a", 0.5),)


@pytest.mark.parametrize("body", [b"", b"\x1f\x8bno gzip", b"<html><body>404</body></html>", b"\xff\xfe\x00", b"<"])
def test_what_is_no_sitemap_lists_nothing(body: bytes) -> None:
    found = parse_sitemap(body, url=URL)
    assert (found.pages, found.sitemaps) == ((), ())


def test_entities_are_neither_resolved_nor_multiplied(tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("x") / "secret"
    secret.write_text("https://example.com/secret", "ascii")
    laughs = "".join(
        f'<!ENTITY l{n} "&l{n - 1};&l{n - 1};&l{n - 1};&l{n - 1};&l{n - 1};&l{n - 1};">' for n in range(1, 12)
    )
    body = f"""<!DOCTYPE urlset [<!ENTITY file SYSTEM "{secret.as_uri()}"><!ENTITY l0 "https://example.com/l">{laughs}]>
    <urlset {NS}><url><loc>&file;</loc></url><url><loc>&l11;</loc></url><url><loc>https://example.com/a</loc></url></urlset>"""
    urls = [url for url, _ in parse_sitemap(body.encode(), url=URL).pages]
    assert "https://example.com/secret" not in urls
    assert all(len(url) < 100 for url in urls)


@pytest.mark.parametrize("form", ["xml", "text"])
def test_a_sitemap_ends_at_the_protocols_own_limit(form: str) -> None:
    urls = [f"https://example.com/{number}" for number in range(50_001)]
    listed = {
        "xml": f"<urlset {NS}>" + "".join(f"<url><loc>{url}</loc></url>" for url in urls),
        "text": "\n".join(urls),
    }
    found = parse_sitemap(listed[form].encode(), url=URL)
    assert len(found.entries) == 50_000
    assert found.is_cut
