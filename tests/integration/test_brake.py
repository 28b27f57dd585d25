"""Pages that all become one: a site that fails as a whole does not take what is known of it with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.tenant import Tenant
from tests.support.website import Reply, page

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


def named_alike(path: str) -> Any:
    return page(about(path), "/start", head="<link rel=canonical href=/start>")


@pytest.mark.parametrize("answer", [the_same, the_same_words, to_the_front_door, named_alike])
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
