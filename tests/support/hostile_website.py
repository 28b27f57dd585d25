"""A website that does all that websites do to crawlers. Each case is an address on it and the row that it must become."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from tests.support.website import Raw, Reply, Route, TestWebsite, page

MAX_BYTES = 300_000  # of a page, in the crawl of this site
DEADLINE = 5.0  # seconds, which no other page takes on a busy machine
MAX_LINKS = 400  # per page
MB = 1_000_000


@dataclass(frozen=True)
class Case:
    """An address, what it answers, and the row it must become."""

    path: str
    route: Route | None
    state: str
    reason: str | None = None
    alias: str | None = None  # path of the page that it is another name of
    finds: tuple[str, ...] = ()  # paths that must be known because of it
    hides: tuple[str, ...] = ()  # paths that must not be


def moved(to: str, status: int = 301) -> Reply:
    return Reply(status=status, headers={"Location": to}, body="<p>moved")


def typed(body: bytes | str, content_type: str, **headers: str) -> Reply:
    return Reply(body=body, headers={"Content-Type": content_type, **headers})


def packed(body: bytes, encoding: str) -> Reply:
    return Reply(body=body, headers={"Content-Encoding": encoding})


def head(markup: str, *links: str) -> str:
    return page(f"A page with {markup}", *links, head=markup)


BOMB = b"<p>" + b"0" * (30 * MB)
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100
FEED = "<rss version='2.0'><channel><title>News</title><item><title>1</title><link>{}</link></item></channel></rss>"
ATOM = "<feed xmlns='http://www.w3.org/2005/Atom'><entry><link href='{}'/><updated>2026-01-01T00:00:00Z</updated></entry></feed>"
PERSIAN = "/%D8%AF%D8%B1%D8%A8%D8%A7%D8%B1%D9%87"  # /درباره


def cases(site: TestWebsite) -> Iterator[Case]:
    """All of them. Pages that only others lead to come with the case that leads there."""
    url = site.url.rstrip("/")
    # What a status says
    yield Case("/ok", page("fine"), "fetched")
    yield Case("/203", Reply(status=203, body=page("by a proxy")), "fetched")
    yield Case("/204", Reply(status=204), "skipped", "no_body")
    yield Case("/206", Reply(status=206, body="part"), "failed", "http_206")
    yield Case("/304", Reply(status=304), "failed", "http_304")
    yield Case("/401", Reply(status=401, headers={"WWW-Authenticate": "Basic"}), "failed", "http_401")
    yield Case("/403", Reply(status=403, body=page("forbidden")), "failed", "http_403")
    yield Case("/404", None, "gone", "http_404")
    yield Case("/410", Reply(status=410), "gone", "http_410")
    yield Case("/451", Reply(status=451), "failed", "http_451")
    yield Case("/500", Reply(status=500, body=page("error")), "failed", "http_500")
    yield Case("/999", Reply(status=999), "failed", "http_999")
    yield Case("/nothing", Reply(body=b""), "skipped", "no_body")
    yield Case("/blank", Reply(body=b" \n\t "), "skipped", "no_body")
    # Where a redirect leads
    for status in (301, 302, 303, 307, 308):
        yield Case(f"/moved-{status}", moved("/ok", status), "skipped", "redirect", alias="/ok")
    yield Case("/hop-1", moved("/hop-2"), "skipped", "redirect", alias="/hop-2", finds=("/hop-2", "/hop-end"))
    yield Case("/hop-2", moved("/hop-end"), "skipped", "redirect", alias="/hop-end")
    yield Case("/hop-end", page("after two hops"), "fetched")
    yield Case("/moved-300", Reply(status=300, headers={"Location": "/ok"}), "failed", "http_300")
    yield Case("/moved-self", moved("/moved-self"), "failed", "bad_redirect")
    yield Case("/moved-nowhere", Reply(status=301), "failed", "bad_redirect")
    yield Case("/moved-ftp", moved("ftp://127.0.0.1/x"), "failed", "bad_redirect")
    yield Case("/moved-file", moved("file:///etc/passwd"), "failed", "bad_redirect")
    yield Case("/moved-credentials", moved(f"http://user:secret@{site.host}/ok"), "failed", "bad_redirect")
    yield Case("/moved-elsewhere", moved("https://elsewhere.example/"), "skipped", "redirect_out_of_scope")
    yield Case("/moved-metadata", moved("http://169.254.169.254/latest/"), "skipped", "redirect_out_of_scope")
    yield Case("/moved-port", moved("http://127.0.0.1:22/"), "skipped", "redirect_out_of_scope")
    yield Case("/moved-long", moved("/" + "x" * 3_000), "failed", "bad_redirect")
    yield Case(
        "/moved-persian", Reply(status=301, headers={"Location": "/درباره".encode().decode("latin-1")}), "skipped",
        "redirect", alias=PERSIAN, finds=(PERSIAN,),
    )  # fmt: skip
    yield Case(PERSIAN, page("درباره ما"), "fetched")
    yield Case("/circle-a", moved("/circle-b"), "skipped", "redirect", alias="/circle-b", finds=("/circle-b",))
    yield Case("/circle-b", moved("/circle-a"), "failed", "redirect_loop")
    yield Case("/to-circle", moved("/circle-a"), "skipped", "redirect", alias="/circle-a")
    yield Case("/links-to-circle", page("c", "/to-circle-late"), "fetched", finds=("/to-circle-late",))
    yield Case("/to-circle-late", moved("/circle-a"), "skipped", "redirect", alias="/circle-a")
    for number in range(5):
        following = f"/chain/{number + 1}"
        yield Case(f"/chain/{number}", moved(following), "skipped", "redirect", alias=following, finds=(following,))
    yield Case("/chain/5", moved("/chain/6"), "failed", "too_many_redirects", hides=("/chain/6",))
    yield Case("/refresh", head("<meta http-equiv=refresh content='0; url=/ok'>"), "skipped", "redirect", alias="/ok")
    yield Case("/refresh-late", head("<meta http-equiv=refresh content='300; url=/ok'>"), "fetched")
    # What a page says of itself
    real = "<link rel=canonical href='/canonical-real'>"
    yield Case("/canonical", head(real), "skipped", "canonical", alias="/canonical-real", finds=("/canonical-real",))
    yield Case("/canonical-real", page("the real one"), "fetched")
    yield Case("/canonical-elsewhere", head("<link rel=canonical href='https://elsewhere.example/'>"), "fetched")
    yield Case("/canonical-away", head("<link rel=canonical href='https://elsewhere.example/page'>"), "fetched")
    yield Case("/canonical-home", head("<link rel=canonical href='/'>"), "fetched")
    yield Case("/canonical-two", head("<link rel=canonical href='/ok'><link rel=canonical href='/203'>"), "fetched")
    yield Case("/canonical-in-body", "<body><p>text</p><link rel=canonical href='/ok'>", "fetched")
    yield Case("/canonical-gone", head("<link rel=canonical href='/404'>"), "fetched")
    yield Case("/noindex", head("<meta name=robots content='noindex'>", "/by-noindex"), "skipped", "noindex",
               finds=("/by-noindex",))  # fmt: skip
    yield Case("/by-noindex", page("found on a page that is not kept"), "fetched")
    yield Case("/noindex-none", head("<meta name=robots content='none'>", "/by-none"), "skipped", "noindex",
               hides=("/by-none",))  # fmt: skip
    yield Case("/noindex-us", head("<meta name=Gleaner content='noindex'>"), "skipped", "noindex")
    yield Case("/noindex-them", head("<meta name=otherbot content='noindex'>"), "fetched")
    yield Case("/noindex-header", typed(page("x"), "text/html", **{"X-Robots-Tag": "noindex"}), "skipped", "noindex")
    yield Case(
        "/noindex-header-them", typed(page("y"), "text/html", **{"X-Robots-Tag": "otherbot: noindex"}), "fetched"
    )
    yield Case("/nofollow", head("<meta name=robots content='nofollow'>", "/by-nofollow"), "fetched",
               hides=("/by-nofollow",))  # fmt: skip
    yield Case("/rel-nofollow", "<p>text <a rel='ugc nofollow' href='/by-rel'>x</a>", "fetched", hides=("/by-rel",))
    yield Case("/private/x", page("nobody may ask for this"), "skipped", "robots")
    # Which links there are
    yield Case("/base", "<head><base href='/base-dir/'></head><a href='y'>y</a>", "fetched", finds=("/base-dir/y",))
    yield Case("/base-elsewhere", "<base href='//elsewhere.example/'><a href='z'>z</a>", "fetched", hides=("/z",))
    yield Case("/frames", "<frameset><frame src='/framed'></frameset>", "fetched", finds=("/framed",))
    yield Case("/framed", page("in a frame"), "fetched")
    yield Case("/map", "<map><area href='/by-area'></map><p>map", "fetched", finds=("/by-area",))
    yield Case("/alternates", head("<link rel=alternate hreflang=fa href='/fa'><link rel=next href='/next'>"), "fetched",
               finds=("/fa", "/next"))  # fmt: skip
    yield Case("/commented", "<p>x<!-- <a href='/by-comment'>x</a> --><script>'<a href=\"/by-script\">'</script>", "fetched",
               hides=("/by-comment", "/by-script"))  # fmt: skip
    yield Case("/schemes", page("s", "javascript:alert(1)", "mailto:a@b.c", "data:text/html,x", "ftp://x/", "file:///x"),
               "fetched")  # fmt: skip
    yield Case("/elsewhere", page("e", "https://elsewhere.example/a", f"http://user:secret@{site.host}/by-password",
                                  "http://127.0.0.1:9/by-port", "//evil.example\\@127.0.0.1/"), "fetched",
               hides=("/by-password", "/by-port"))  # fmt: skip
    yield Case("/long", page("l", "/" + "x" * 2_500), "fetched")
    yield Case("/files", page("f", "/a.jpg", "/a.CSS", "/a.zip?x=1", "/a.mp4"), "fetched",
               hides=("/a.jpg", "/a.CSS", "/a.zip?x=1", "/a.mp4"))  # fmt: skip
    # One page or two
    yield Case("/Case", page("upper", "/case"), "fetched", finds=("/case",))
    yield Case("/case", page("lower"), "fetched")
    yield Case(
        "/slash", page("without", "/slash/", "/slash#part", "/./slash", "/x/../slash"), "fetched", finds=("/slash/",)
    )
    yield Case("/slash/", page("with"), "fetched")
    yield Case("/tracked", page("t", "/tracked?utm_source=x&fbclid=1", "/tracked?gclid=7"), "fetched")
    yield Case("/session", page("s", "/session;jsessionid=AB12CD34", "/session?PHPSESSID=a1b2c3",
                                "/session?sid=0123456789abcdef0123"), "fetched")  # fmt: skip
    yield Case("/sorted?a=1&b=2", page("q", "/sorted?b=2&a=1"), "fetched")
    yield Case("/twin-of-it", page("the same words"), "skipped", "duplicate", alias="/twin")
    yield Case("/twin", page("the same words"), "fetched")
    # What the bytes are
    yield Case("/pdf", typed(b"%PDF-1.7", "application/pdf"), "skipped", "content_type")
    yield Case("/pdf-as-html", typed(b"%PDF-1.7\n%\xe2\xe3", "text/html"), "skipped", "content_type")
    yield Case("/png-as-html", typed(PNG, "text/html"), "skipped", "content_type")
    yield Case("/zip-as-text", typed(b"PK\x03\x04" + b"\0" * 50, "text/plain"), "skipped", "content_type")
    yield Case("/gzip-as-html", typed(gzip.compress(b"<p>x"), "text/html"), "skipped", "content_type")
    yield Case("/binary-as-html", typed(bytes(range(256)) * 20, "text/html"), "skipped", "content_type")
    yield Case("/json", typed('{"a": 1}', "application/json"), "skipped", "content_type")
    yield Case("/untyped", typed("<!doctype html><title>x</title><p>no type", ""), "fetched")
    yield Case("/untyped-binary", typed(PNG, ""), "skipped", "content_type")
    yield Case("/xhtml", typed("<html xmlns='http://www.w3.org/1999/xhtml'><body/></html>", "application/xhtml+xml"),
               "fetched")  # fmt: skip
    yield Case("/xhtml-as-xml", typed("<?xml version='1.0'?><html><body>x</body></html>", "application/xml"), "fetched")
    yield Case("/text", typed("plain words", "text/plain"), "fetched")
    yield Case("/xml", typed("<?xml version='1.0'?><data/>", "text/xml"), "skipped", "content_type")
    yield Case("/feed", typed(FEED.format("/by-feed"), "application/rss+xml"), "skipped", "feed", finds=("/by-feed",))
    yield Case("/by-feed", page("news"), "fetched")
    yield Case("/atom", typed(ATOM.format("/by-atom"), "application/atom+xml"), "skipped", "feed", finds=("/by-atom",))
    yield Case("/head-feed", head("<link rel=alternate type='application/rss+xml' href='/feed.rss'>"), "fetched",
               finds=("/feed.rss", "/by-feed-2"))  # fmt: skip
    yield Case("/feed.rss", typed(FEED.format("/by-feed-2"), "text/xml"), "skipped", "feed")
    # In which letters it is written
    persian = "<p>سلام <a href='/{}'>x</a><a href='/q?n=آب'>y</a>"
    arabic = persian.format("عربی")
    cp1256 = "/q?n=%C2%C8"  # آب
    yield Case("/cp1256-header", typed(persian.format("الف").encode("cp1256", "replace"), "text/html; charset=windows-1256"),
               "fetched", finds=("/%D8%A7%D9%84%D9%81", cp1256))  # fmt: skip
    yield Case("/cp1256-late-meta", ("<p>" + "x" * 5_000 + "<meta charset=windows-1256>" + persian.format("ب")).encode(
        "cp1256", "replace"), "fetched", finds=("/%D8%A8",))  # fmt: skip
    yield Case("/utf8-called-latin", typed(persian.format("پ"), "text/html; charset=iso-8859-1"), "fetched",
               finds=("/%D9%BE",))  # fmt: skip
    yield Case("/utf8-untold", typed(persian.format("ت"), "text/html"), "fetched", finds=("/%D8%AA",))
    yield Case("/utf16", typed(persian.format("ث").encode("utf-16"), "text/html"), "fetched", finds=("/%D8%AB",))
    yield Case("/utf16-called", typed(persian.format("ج").encode("utf-16-be"), "text/html; charset=utf-16be"), "fetched",
               finds=("/%D8%AC",))  # fmt: skip
    yield Case("/bom-against-header", typed(b"\xef\xbb\xbf" + arabic.encode(), "text/html; charset=windows-1256"), "fetched",
               finds=("/%D8%B9%D8%B1%D8%A8%DB%8C",))  # fmt: skip
    for label in ("undefined", "idna", "punycode", "cp037", "unicode-escape"):  # Python knows them, browsers do not
        told = f"<meta charset={label}><h1>Prix</h1><a href='/from-{label}'>caf\xe9</a>".encode("latin-1")
        yield Case(f"/charset-{label}", typed(told, "text/html"), "fetched", finds=(f"/from-{label}",))
    yield Case(
        "/charset-nonsense", typed(persian.format("چ"), "text/html; charset=klingon"), "fetched", finds=("/%DA%86",)
    )
    # How much of it there is
    yield Case("/large", Reply(body=b"<p>" + b"x" * MAX_BYTES), "failed", "too_large")
    yield Case("/bomb-gzip", packed(gzip.compress(BOMB), "gzip"), "failed", "too_large")
    yield Case("/bomb-deflate", packed(zlib.compress(BOMB), "deflate"), "failed", "too_large")
    yield Case("/bomb-twice", packed(gzip.compress(gzip.compress(BOMB)), "gzip, gzip"), "failed", "too_large")
    yield Case("/bomb-empty", packed(b"\x78\x9c" + b"\0\0\0\xff\xff" * 100_000, "deflate"), "failed", "too_large")
    yield Case("/bomb-br", packed(b"\x8b\x02\x80", "br"), "failed", "bad_encoding")
    yield Case("/bomb-zstd", packed(b"\x28\xb5\x2f\xfd\x00", "zstd"), "failed", "bad_encoding")
    yield Case("/bomb-layers", packed(b"x", "gzip, gzip, gzip, gzip"), "failed", "bad_encoding")
    yield Case("/packed-not", packed(b"<p>no gzip at all", "gzip"), "failed", "bad_encoding")
    yield Case("/packed", packed(gzip.compress(page("packed well").encode()), "gzip"), "fetched")
    yield Case("/cut", Reply(body="<p>half", length=5_000), "failed", "cut_off")
    yield Case("/cut-gzip", packed(gzip.compress(page("x" * 900).encode())[:-20], "gzip"), "failed", "cut_off")
    yield Case("/cut-chunk", Raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n<p>"),
               "failed", "cut_off")  # fmt: skip
    yield Case("/deep", "<div>" * 10_000 + "<a href='/deep-end'>x</a>", "fetched", finds=("/deep-end",))
    yield Case(
        "/unclosed", "<b><i><ul><li>" * 20_000 + "<a href='/unclosed-end'>x</a>", "fetched", finds=("/unclosed-end",)
    )
    yield Case("/links", page("many", *(f"/many/{number}" for number in range(MAX_LINKS + 50))), "fetched",
               finds=(f"/many/{MAX_LINKS - 1}",), hides=(f"/many/{MAX_LINKS}",))  # fmt: skip
    yield Case("/attribute", f"<p title='{'x' * 200_000}'>x</p><a href='/attribute-end'>x</a>", "fetched",
               finds=("/attribute-end",))  # fmt: skip
    yield Case("/nul", b"<p>a\0b</p><a href='/nul-\0end'>x</a>", "fetched")
    # What comes instead of HTTP
    yield Case("/not-http", Raw(b"220 ftp.example ready\r\n"), "failed", "bad_response")
    yield Case("/silence", Raw(b""), "failed", "no_connection")
    yield Case("/headers-many", Raw(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 5_000 + b"\r\n"), "failed", "bad_response")
    yield Case("/headers-long", Raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * MB + b"\r\n\r\n"), "failed", "bad_response")
    yield Case("/continues", Raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
                                 b"Content-Length: 4\r\n\r\n<p>x"), "fetched")  # fmt: skip
    yield Case("/hints", Raw(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
                             b"Content-Length: 4\r\n\r\n<p>h"), "fetched")  # fmt: skip
    yield Case("/odd-headers", Reply(body=page("odd"), headers={"ETag": '"a\x00b"', "Last-Modified": "\x01", "Set-Cookie": "s=1"}),
               "fetched")  # fmt: skip
    yield Case("/drip", Reply(body=b"x" * 2_000, drip=0.05), "failed", "timeout")
    yield Case("/drip-headers", Raw(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 90, drip=0.5), "failed", "timeout")
    # Without end: families are followed so far and no further
    yield Case("/again/again/again/x", None, "", hides=("/again/again/again/x",))
    yield Case("/deep/" + "/".join(str(number) for number in range(25)), None, "",
               hides=("/deep/" + "/".join(str(number) for number in range(25)),))  # fmt: skip
    yield Case("/calendar/2026/1", None, "fetched", finds=("/calendar/2026/12", "/calendar/2030/6"),
               hides=("/calendar/2199/12",))  # fmt: skip
    yield Case("/shop?colour=0&price=0&size=0", None, "fetched", finds=("/shop?colour=5&price=0&size=0",))
    yield Case("/same?n=1", None, "fetched")
    yield Case("/absolute", page("abs", f"{url}/by-absolute", "http://[::1]/"), "fetched", finds=("/by-absolute",))


# What is left out of the families, as the report must say: kind and pattern (without the host).
TRAPS = {
    ("repeating path", "/again/..."),
    ("deep path", "/deep/0/1/..."),
    ("calendar", "/calendar/<date>"),
    ("facets", "/shop?..."),
    ("same content", "/same?n"),
    ("too long", "addresses over 2,000 characters"),
}


def endless(path: str) -> Route | None:
    """Pages that are made as they are asked for."""
    if match := re.fullmatch(r"/calendar/(\d{4})/(\d{1,2})", path):
        year = int(match[1])
        months = [f"/calendar/{year}/{month}" for month in range(1, 13)]
        return page(f"No events in {path}", *months, *(f"/calendar/{year + step}/{match[2]}" for step in (-1, 1)))
    if path.startswith("/shop?"):
        chosen = dict(parse_qsl(path.partition("?")[2]))
        others = [{**chosen, name: str(value)} for name in ("colour", "size", "price") for value in range(6)]
        return page(f"Filtered by {chosen}", *("/shop?" + urlencode(sorted(other.items())) for other in others))
    if path.startswith("/same?"):
        return page("This page does not care for its parameter", *(f"/same?n={number}" for number in range(1, 200)))
    return None


def install(site: TestWebsite) -> list[Case]:
    """Make `site` the hostile one. Its start page links all cases but those that are found on the way."""
    found = list(cases(site))
    site.routes = {case.path: case.route for case in found if case.route is not None}
    site.endless = endless
    by_hand = {path for case in found for path in case.finds}
    site.routes["/"] = page("Start", *(case.path for case in found if case.path not in by_hand))
    site.routes["/robots.txt"] = "User-agent: *\nDisallow: /private/\n"
    return found
