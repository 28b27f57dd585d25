"""Pages that all become one: a site that fails as a whole does not take what is known of it with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.tenant import Tenant
from tests.support.website import Reply, TestWebsite, page

PATHS = tuple(f"/pump/{number}" for number in range(12))
SOON = "Our shop is being rebuilt at the moment, and opens again on Monday with many new pumps for you."


def about(path: str) -> str:
    return f"The filter of the pump {path} is cleaned with warm water, and {path} is dried before it runs again."


def shop() -> dict[str, Any]:
    return {"/": page("Pumps of every kind", *PATHS), **{path: page(about(path)) for path in PATHS}}


def the_same(path: str) -> Any:
    return page(SOON, *PATHS)


def the_same_words(path: str) -> Any:
    return page(SOON, *PATHS) + f"<!-- {path} -->"


def to_the_front_door(path: str) -> Any:
    return Reply(status=302, headers={"Location": "/"})


@pytest.mark.parametrize("answer", [the_same, the_same_words, to_the_front_door])
def test_a_site_whose_pages_all_become_one_keeps_its_knowledge(tenant: Tenant, answer: Callable[[str], Any]) -> None:
    tenant.site.routes = shop()
    tenant.run()
    known = dict(tenant.knowledge())
    tenant.site.routes |= {"/start": page("Choose a country and a language, please.")}
    tenant.site.routes |= {path: answer(path) for path in PATHS}
    for _ in range(3):
        report = tenant.run()
        assert report["retired"]["retired"] == 0
        assert report["retired"]["held_back"] >= len(PATHS) - 1
        kept = dict(tenant.knowledge())
        assert sum(about(path) in kept.get(path, "") for path in PATHS) >= len(PATHS) - 1
    tenant.site.routes = shop()
    tenant.run()
    assert {path: text for path, text in tenant.knowledge() if path in PATHS} == {path: known[path] for path in PATHS}


def test_what_really_became_one_goes_when_it_is_let(tenant: Tenant) -> None:
    tenant.site.routes = shop()
    tenant.run()
    tenant.site.routes |= {path: to_the_front_door(path) for path in PATHS}
    assert tenant.run(max_delete_share=1.0)["retired"] == {"retired": len(PATHS), "held_back": 0}
    assert [path for path, _ in tenant.knowledge()] == ["/"]


def test_a_site_that_moves_page_by_page_is_not_held_back(tenant: Tenant) -> None:
    tenant.site.routes = shop()
    tenant.run()
    for path in PATHS:
        tenant.site.routes[path] = Reply(status=301, headers={"Location": f"/new{path}"})
        tenant.site.routes[f"/new{path}"] = page(about(path))
    assert tenant.run()["retired"] == {"retired": len(PATHS), "held_back": 0}
    assert [path for path, _ in tenant.knowledge()] == ["/", *sorted(f"/new{path}" for path in PATHS)]


@pytest.mark.parametrize("folder", ["", "/shop"])
def test_a_site_that_moved_to_another_host_is_not_known_twice(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    with TestWebsite() as elsewhere:
        monkeypatch.setenv("GLEANER_LOCAL_HOSTS", f"{tenant.site.host},{elsewhere.host}")
        tenant.site.routes = shop()
        tenant.run()
        more = "" if folder else "<p>Call us on Mondays.</p>"  # moved as it was, or with something new on each page
        elsewhere.routes = {folder + path: route + more for path, route in shop().items()}
        elsewhere.routes[f"{folder}/"] = page("Pumps of every kind", *(folder + path for path in PATHS))
        for path in ("/", *PATHS):
            to = f"http://{elsewhere.host}{folder}{path}"
            tenant.site.routes[path] = Reply(status=301, headers={"Location": to})
        assert tenant.run()["retired"] == {"retired": len(PATHS) + 1, "held_back": 0}
        assert {url for url, _ in tenant.knowledge()} == {
            f"http://{elsewhere.host}{folder}{path}" for path in ("/", *PATHS)
        }


def test_a_host_that_says_something_else_at_the_same_paths_takes_nothing_away(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestWebsite() as parked:
        monkeypatch.setenv("GLEANER_LOCAL_HOSTS", f"{tenant.site.host},{parked.host}")
        tenant.site.routes = shop()
        tenant.run()
        parked.routes = {
            path: page(f"Casino {path} has games for everybody who likes them.", *PATHS) for path in ("/", *PATHS)
        }
        tenant.site.routes = {"/": Reply(status=302, headers={"Location": parked.url})}
        for _ in range(2):
            assert tenant.run()["retired"]["held_back"] >= len(PATHS)
        assert sum("cleaned with warm water" in text for _, text in tenant.knowledge()) == len(PATHS)
