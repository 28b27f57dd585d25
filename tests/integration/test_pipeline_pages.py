"""Pages that change, move, vanish or say the same as another: what of them is known after each run."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from include.gleaner.pipeline import processing
from tests.support.articles import article, website
from tests.support.tenant import Tenant
from tests.support.website import Reply, Route, page


def test_a_page_that_vanishes_goes_on_evidence(tenant: Tenant) -> None:
    tenant.site.routes = website("apples", "pears")
    tenant.run()
    del tenant.site.routes["/pears"]  # still linked, but 404
    tenant.run()
    assert len(tenant.knowledge()) == 3
    tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/apples"]
    assert tenant.states()["/pears"] == "gone"
    tenant.site.routes["/pears"] = page(article("pears"))
    tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/apples", "/pears"]


def test_a_page_that_a_complete_crawl_does_not_reach_goes_and_an_incomplete_one_takes_nothing(tenant: Tenant) -> None:
    names = ["apples", "berries", "cherries", "figs", "grapes"]
    tenant.site.routes = website(*names, "pears")
    tenant.run()
    tenant.site.routes |= website(*names, "broken")
    tenant.site.routes["/broken"] = Reply(status=500)
    report = tenant.run(max_delete_share=1.0)
    assert report["crawl"]["state"] == "partial"
    assert len(tenant.knowledge()) == 7
    tenant.site.routes["/broken"] = Reply(status=404)
    report = tenant.run()
    assert report["crawl"]["state"] == "complete"
    assert report["retired"] == {"retired": 1, "held_back": 0}
    assert [path for path, _ in tenant.knowledge()] == ["/", *[f"/{name}" for name in names]]


def test_the_delete_brake_holds_and_says_so(tenant: Tenant) -> None:
    names = [f"page{number}" for number in range(20)]
    tenant.site.routes = website(*names)
    tenant.run()
    tenant.site.routes = website(*names[:4])
    report = tenant.run()
    assert report["retired"] == {"retired": 0, "held_back": 16}
    assert len(tenant.knowledge()) == 21
    report = tenant.run(max_delete_share=0.9)
    assert report["retired"] == {"retired": 16, "held_back": 0}
    assert len(tenant.knowledge()) == 5


def test_the_same_bytes_under_two_addresses_are_stored_once(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    tenant.site.routes["/"] = page("Welcome to the home page of the example company.", "/apples", "/apples?view=2")
    tenant.site.routes["/apples?view=2"] = tenant.site.routes["/apples"]
    tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/apples"]
    tenant.site.routes["/apples"] = page(article("something else"))
    tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/apples", "/apples?view=2"]
    assert article("apples") in tenant.knowledge()[2][1]


def test_a_duplicate_that_was_loaded_before_speaks_again(tenant: Tenant) -> None:
    tenant.site.routes = website("apples", "pears")
    tenant.run()
    tenant.site.routes["/pears"] = tenant.site.routes["/apples"]
    tenant.run()
    tenant.site.routes["/apples-long"] = tenant.site.routes["/apples"]
    tenant.site.routes["/"] = page("Welcome to the home page of the example company.", "/apples-long", "/pears")
    tenant.run()  # now /pears is the shortest, and its chunks were retired when it was not
    assert [path for path, _ in tenant.knowledge()] == ["/", "/pears"]


def test_a_canonical_address_without_content_loses_nothing(tenant: Tenant) -> None:
    tenant.site.routes = website("apples", "pears")
    tenant.site.routes["/apples"] = page(
        article("apples"), head=f'<link rel="canonical" href="{tenant.site.url}missing">'
    )
    tenant.site.routes["/pears"] = page(
        article("pears"), head=f'<link rel="canonical" href="{tenant.site.url}best-pears">'
    )
    tenant.site.routes["/best-pears"] = page(article("the best pears"))
    tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/apples", "/best-pears"]


@pytest.mark.parametrize("etag", ["", '"v1"'])
def test_what_only_a_canonical_address_leads_to_is_found_in_each_crawl(tenant: Tenant, etag: str) -> None:
    """Two pages that name each other both speak; what is unchanged then still leads to the other."""

    def naming(fruit: str, other: str) -> Route:
        body = page(article(fruit), head=f"<link rel=canonical href={other}>")

        def answer(headers: Mapping[str, str]) -> Reply:
            if etag and headers.get("If-None-Match") == etag:
                return Reply(status=304, headers={"ETag": etag})
            return Reply(body=body, headers={"ETag": etag} if etag else {})

        return answer

    tenant.site.routes = {
        "/": page("Fruit of all kinds", "/apples"),
        "/apples": naming("apples", "/pears"),
        "/pears": naming("pears", "/apples"),
    }
    for _ in range(3):
        report = tenant.run()
        assert [path for path, _ in tenant.knowledge()] == ["/", "/apples", "/pears"]
        assert report["retired"] == {"retired": 0, "held_back": 0}


def test_a_page_that_moved_is_not_stored_twice(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    tenant.run()
    tenant.site.routes["/apples"] = Reply(status=301, headers={"Location": "/fruit/apples"})
    tenant.site.routes["/fruit/apples"] = page(article("apples"))
    report = tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/fruit/apples"]
    assert report["work"]["embedded"] == 0


def test_an_error_page_does_not_replace_content(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    tenant.run()
    tenant.site.routes["/apples"] = (
        "<html><head><title>404 Not Found</title></head><body><h1>Not found</h1></body></html>"
    )
    tenant.run()
    assert any(article("apples") in text for _, text in tenant.knowledge())
    assert not any("Not found" in text for _, text in tenant.knowledge())


def test_pages_are_stored_whole_however_many_share_a_statement(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processing, "WORDS_PER_STATEMENT", 250)
    names = [f"page{number}" for number in range(9)]
    tenant.site.routes = website(*names)
    for number, name in enumerate(names):
        tenant.site.routes[f"/{name}"] = page(article(name) * (1 + 6 * (number % 3)))  # 6 of them fill a statement
    tenant.site.routes["/page4"] = page("")
    tenant.run()
    kept = ["/", *(f"/{name}" for name in names if name != "page4")]
    assert sorted({path for path, _ in tenant.knowledge()}) == kept
    for path, text in tenant.knowledge():
        assert path == "/" or article(path[1:]).split(".")[0] in text, path
    assert tenant.states()["/page4"] == "skipped"
