"""Which spellings of an address are one page, and which are two, whatever the address: as a browser would say."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl import urls
from include.gleaner.crawl.urls import Scope, canonicalize, site_of

LABELS = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
HOSTS = st.builds(lambda name, top: f"{name}.{top}", LABELS, st.sampled_from(["com", "org", "ir", "example"]))
SEGMENTS = st.text("abcXYZ019-_~آبپتژگ€ü", min_size=1, max_size=8)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
NAMES = st.from_regex(r"[a-h][0-9]", fullmatch=True)
QUERIES = st.lists(st.tuples(NAMES, st.text("xyz019آب", max_size=4)), min_size=1, max_size=4)


def address(host: str, path: str, query: list[tuple[str, str]] | None = None) -> str:
    return f"https://{host}{path}" + ("?" + "&".join(f"{name}={value}" for name, value in query) if query else "")


def canonical(url: str) -> str:
    found = canonicalize(url)
    assert found is not None, url
    return found


@given(HOSTS, PATHS, QUERIES)
def test_a_canonical_address_stays_what_it_is(host: str, path: str, query: list[tuple[str, str]]) -> None:
    once = canonical(address(host, path, query))
    assert canonicalize(once) == once
    assert once.isascii()


@given(HOSTS, PATHS, QUERIES)
def test_encoded_and_raw_letters_are_one(host: str, path: str, query: list[tuple[str, str]]) -> None:
    encoded = f"https://{host}{quote(path)}?" + "&".join(f"{name}={quote(value)}" for name, value in query)
    lower = re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), encoded)
    assert canonical(encoded) == canonical(address(host, path, query)) == canonical(lower)


@given(HOSTS, PATHS)
def test_spellings_that_browsers_undo_are_one(host: str, path: str) -> None:
    url = canonical(address(host, path))
    spellings = [
        f"HTTPS://{host.upper()}{path}", f"https://{host}:443{path}", f"https://{host}{path}#part", f" https://{host}{path}\n",
        f"https://{host}/.{path}", f"https://{host}/x/..{path}", f"https://{host}/%2e{path}", f"https:\\\\{host}{path}",
        f"https://{host}{path[:1]}\t{path[1:]}", f"https://{host}{path}?", f"https://{host}{path}?utm_source=a&fbclid=b",
        f"https://{host}{path};jsessionid=0A1B2C", f"https://{host}{path}?PHPSESSID=abc",
        f"https://{host}{path}?sid=0123456789abcdef01",
    ]  # fmt: skip
    assert {canonicalize(spelling) for spelling in spellings} == {url}


@given(HOSTS, PATHS, QUERIES)
def test_the_order_of_parameters_does_not_count(host: str, path: str, query: list[tuple[str, str]]) -> None:
    assume(len({name for name, _ in query}) == len(query))
    assert canonical(address(host, path, query)) == canonical(address(host, path, query[::-1]))


@given(HOSTS, PATHS, NAMES, st.text("xyz019", max_size=4))
def test_what_browsers_take_for_two_stays_two(host: str, path: str, name: str, value: str) -> None:
    different = [
        f"https://{host}{path}", f"https://{host}{path}/", f"http://{host}{path}", f"https://www.{host}{path}",
        f"https://{host}:8443{path}", f"https://{host}{path}?{name}={value}", f"https://{host}{path}?{name}={value}1",
        f"https://{host}{path}?{name}={value}&{name}={value}", f"https://{host}{path}/{name}", f"https://{host}/{path}",
        f"https://{host}{path}%2F", f"https://{host}{path}?sid=news",
    ]  # fmt: skip
    assert len({canonical(url) for url in different}) == len(different)


@given(HOSTS, PATHS)
def test_upper_and_lower_case_of_a_path_are_two(host: str, path: str) -> None:
    assume(quote(path).upper() != path and path.lower() != path.upper())
    upper, lower = canonical(address(host, path.upper())), canonical(address(host, path.lower()))
    assert (upper == lower) is (quote(path.upper()) == quote(path.lower()))


@given(LABELS, PATHS)
def test_a_host_in_any_script_is_the_one_in_ascii(label: str, path: str) -> None:
    ascii_host = f"{label}-{'ä'}".encode("idna").decode()
    assert canonical(f"https://{label}-ä.de{path}") == canonical(f"https://{ascii_host}.de{path}")


@given(HOSTS, PATHS, PATHS)
def test_a_relative_link_is_the_absolute_one(host: str, base: str, path: str) -> None:
    assert canonicalize(path, address(host, base)) == canonical(address(host, path))
    assert canonicalize(f"//{host}{path}", "https://other.example/") == canonical(address(host, path))
    assert canonicalize("", address(host, base)) == canonical(address(host, base))


@given(st.from_regex(r"https?://[a-z0-9.-]{1,20}(:[0-9]{1,4})?/[A-Za-z0-9._~/-]{0,30}", fullmatch=True))
def test_the_short_way_and_the_long_way_agree(url: str) -> None:
    found = canonicalize(url)
    assert found is None or found == urls._canonicalize(found)


@given(st.text(max_size=80), st.sampled_from([None, "https://example.com/a/b?c=d", "no base", ""]))
def test_nothing_raises_and_what_comes_out_is_an_address(text: str, base: str | None) -> None:
    found = canonicalize(text, base)
    if found is not None:
        assert re.fullmatch(r"https?://[^/@\s]+/\S*", found)
        assert canonicalize(found) == found
        assert len(found) <= urls.MAX_LENGTH


EVIL = st.sampled_from(["evil.org", "127.0.0.1", "[::1]", "169.254.169.254", "example.com.evil.org", "evilexample.com"])


@given(EVIL, PATHS, st.sampled_from(["@", "%40", "\\@", "#@", "?@", "/@", ":80@", "&@", ".", "%2e", "\t", "//", "\\"]))
def test_no_spelling_of_another_host_is_in_scope(evil: str, path: str, trick: str) -> None:
    scope = Scope.of("https://example.com/", CrawlPolicy())
    for spelling in (
        f"https://{evil}{path}", f"//{evil}{path}", f"\\\\{evil}{path}", f"https:/\\{evil}{path}",
        f"https://example.com{trick}{evil}{path}", f"//example.com{trick}{evil}{path}",
    ):  # fmt: skip
        found = canonicalize(spelling, "https://example.com/a")
        if found is not None and scope.allows(found):
            assert site_of(found) == "example.com"
            assert found.startswith(("https://example.com/", "http://example.com/"))


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("https://www.example.com/a", "example.com"),
        ("http://example.com/", "example.com"),
        ("http://127.0.0.1:8080/x", "127.0.0.1:8080"),
        ("https://[2001:db8::1]:444/", "2001:db8::1:444"),
    ],
)
def test_politeness_is_owed_to_a_site(url: str, site: str) -> None:
    assert site_of(url) == site


@pytest.mark.parametrize(
    ("start", "inside", "outside"),
    [
        ("https://example.com/home", ["https://example.com/a"], []),
        ("https://example.com/en/index", ["https://example.com/en/a"], ["https://example.com/a"]),
        ("https://example.com/docs", ["https://example.com/docs/a"], ["https://example.com/a"]),
        ("https://example.com/en", ["https://example.com/en/a"], ["https://example.com/fa/a"]),
    ],
)
def test_what_a_start_page_without_an_ending_stands_for(start: str, inside: list[str], outside: list[str]) -> None:
    scope = Scope.of(start, CrawlPolicy())
    assert all(scope.allows(url) for url in [start, *inside])
    assert not any(scope.allows(url) for url in outside)


def test_a_moved_start_adds_its_new_folder_and_keeps_the_old() -> None:
    scope = Scope.of("https://a.example/docs/", CrawlPolicy()).moved_to("https://b.example/manual/")
    assert scope.allows("https://a.example/docs/x")
    assert scope.allows("https://b.example/manual/x")
    assert not scope.allows("https://b.example/docs/x")
    assert not scope.allows("https://a.example/manual/x")
