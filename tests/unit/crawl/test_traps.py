"""Families without end are bounded; ordinary sites are not touched."""

from __future__ import annotations

import pytest

from include.gleaner.crawl.traps import (
    CALENDAR_PAGES,
    FACET_PAGES,
    PAGES_PER_WAVE,
    SAME_CONTENT_PAGES,
    Traps,
    family_of,
    is_told,
    pattern_of,
)

SITE = "https://example.com"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/events/2026/11/", "calendar"),
        ("/events/2026/11/24", "calendar"),
        ("/events/2026-11-24", "calendar"),
        ("/events/2026/nov", "calendar"),
        ("/events?month=11&year=2026", "calendar"),
        ("/events?date=2026-11-24", "calendar"),
        ("/shop?colour=red&size=m", "facets"),
        ("/a/b/a/b/a/b", "repeating path"),
        ("/a/a/a", "repeating path"),
        ("/" + "/".join("abcdefghijklmnopqrstuvwxyz"), "deep path"),
        ("/blog/2026/11/24/a-title", None),
        ("/2026/speakers", None),
        ("/viewtopic?t=17", None),
        ("/page/2", None),
        ("/title/1/1/1", None),
        ("/a/b/a/b", None),
        ("/lists/2026", None),
    ],
)
def test_kinds(path: str, kind: str | None) -> None:
    found = family_of(SITE + path)
    assert (found and found[0]) == kind


def followed(urls: list[str]) -> int:
    traps = Traps()
    return sum(traps.depth_of(url, 1) is not None for url in urls)


@pytest.mark.parametrize(
    "urls",
    [
        [f"{SITE}/product/{number}" for number in range(5_000)],
        [f"{SITE}/index.php?id={number}" for number in range(5_000)],
        [f"{SITE}/index.php?option=content&view=article&id={number}" for number in range(5_000)],
        [
            f"{SITE}/viewtopic.php?f={topic % 9}&t={topic}&start={page * 15}"
            for topic in range(500)
            for page in range(9)
        ],
        [f"{SITE}/blog/2026/11/title-{number}" for number in range(1_000)],
        [f"{SITE}/changelog/2025-{month:02}-{day:02}" for month in range(1, 13) for day in range(1, 31)],
    ],
    ids=["products", "ids", "joomla", "forum", "blog", "changelog"],
)
def test_ordinary_sites_are_followed_to_the_end(urls: list[str]) -> None:
    assert followed(urls) == len(urls)


def test_a_calendar_ends() -> None:
    assert (
        followed([f"{SITE}/cal/{year}/{month}" for year in range(1950, 2150) for month in range(1, 13)])
        == CALENDAR_PAGES
    )


def test_facets_end() -> None:
    urls = [
        f"{SITE}/shop?a={a}&b={b}&c={c}&d={d}" for a in range(6) for b in range(6) for c in range(6) for d in range(6)
    ]
    assert FACET_PAGES <= followed(urls) <= 60  # ten for each of the six values of the parameter with the most
    assert len(urls) == 1_296


def test_a_family_counts_as_further_away_the_bigger_it_gets() -> None:
    traps = Traps()
    depths = [traps.depth_of(f"{SITE}/cal/{year}/1", 2) for year in range(1950, 2050)]
    assert depths == [2 + number // PAGES_PER_WAVE for number in range(100)]
    assert traps.depth_of(f"{SITE}/cal/1950/1", 2) == 2  # the same again


def test_one_page_under_many_names_is_found_out() -> None:
    traps = Traps()
    for number in range(SAME_CONTENT_PAGES):
        assert not traps.is_closed(f"{SITE}/x?n=0")
        traps.has_seen(f"{SITE}/x?n={number}", b"same")
    assert traps.is_closed(f"{SITE}/x?n=99")
    assert traps.depth_of(f"{SITE}/x?n=100", 1) is None
    assert traps.depth_of(f"{SITE}/y?n=100", 1) == 1
    assert traps.told() == [
        {"kind": "same content", "pattern": f"{SITE}/x?n", "followed": SAME_CONTENT_PAGES, "left_out": 2}
    ]
    assert is_told(f"{SITE}/x?n=7", traps.told())
    assert not is_told(f"{SITE}/y?n=7", traps.told())


def test_pages_of_a_family_that_differ_keep_it_open() -> None:
    traps = Traps()
    for number in range(10 * SAME_CONTENT_PAGES):
        traps.has_seen(f"{SITE}/x?n={number}", b"same" if number % 20 else b"other")
    assert not traps.is_closed(f"{SITE}/x?n=1")


def test_patterns() -> None:
    assert pattern_of(f"{SITE}/a/12/b-3?x=1&y=2&x=3") == f"{SITE}/a/#/b-#?x&y"
    assert pattern_of(f"{SITE}/about") is None
