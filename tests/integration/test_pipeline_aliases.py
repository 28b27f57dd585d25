"""What is loaded of a page goes when its address leads elsewhere, however long the way and whatever is at its end."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.support.articles import NAMES, article, website
from tests.support.tenant import Tenant
from tests.support.website import Reply, Route, page

QUIET = "<!doctype html><html><head><title>Quiet</title></head><body></body></html>"


def sent_to(path: str) -> Reply:
    return Reply(status=301, headers={"Location": path})


def texts(tenant: Tenant) -> dict[str, str]:
    return dict(tenant.knowledge())


@pytest.mark.parametrize("hops", [1, 2, 4])
def test_a_page_that_moved_over_several_redirects_is_not_stored_twice(tenant: Tenant, hops: int) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    way = ["/plums", *[f"/way{number}" for number in range(1, hops)], "/prunes"]
    tenant.site.routes |= {start: sent_to(target) for start, target in pairwise(way)}
    tenant.site.routes["/prunes"] = page(article("prunes"))
    assert tenant.run()["retired"] == {"retired": 1, "held_back": 0}
    assert set(texts(tenant)) == {"/", "/apples", "/pears", "/figs", "/prunes"}


def test_a_canonical_address_that_redirects_is_followed(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    link = '<link rel="canonical" href="/way"></head>'
    tenant.site.routes |= {
        "/plums": page(article("plums again")).replace("</head>", link),
        "/way": sent_to("/prunes"),
        "/prunes": page(article("prunes")),
    }
    tenant.run()
    assert set(texts(tenant)) == {"/", "/apples", "/pears", "/figs", "/prunes"}


@pytest.mark.parametrize(
    "end",
    [QUIET, Reply(body="%PDF-1.7", headers={"Content-Type": "application/pdf"}), Reply(status=404)],
    ids=["quiet", "file", "missing"],
)
@pytest.mark.parametrize("hops", [1, 2])
def test_a_page_that_leads_to_nothing_goes_after_two_crawls(tenant: Tenant, end: Route, hops: int) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    tenant.site.routes |= {"/plums": sent_to("/end" if hops == 1 else "/way"), "/way": sent_to("/end"), "/end": end}
    assert tenant.run()["retired"]["retired"] == 0
    assert texts(tenant)["/plums"] == article("plums")
    assert tenant.run()["retired"]["retired"] == 1
    assert set(texts(tenant)) == {"/", "/apples", "/pears", "/figs"}


def test_a_page_that_leads_to_one_that_was_not_asked_for_stays(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    tenant.site.routes |= {"/plums": sent_to("/end"), "/end": Reply(status=500)}
    for _ in range(3):
        tenant.run(max_failed_share=1.0)
    assert texts(tenant)["/plums"] == article("plums")


def test_pages_that_say_the_same_nothing_go_together(tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    tenant.site.routes |= dict.fromkeys(("/apples", "/pears", "/plums"), QUIET)
    assert tenant.run()["retired"]["retired"] == 0
    assert tenant.run()["retired"]["retired"] == 3
    assert set(texts(tenant)) == {"/", "/figs"}


@pytest.mark.parametrize("is_linked", [True, False])
def test_a_copy_that_is_gone_does_not_speak_again(tenant: Tenant, is_linked: bool) -> None:
    tenant.site.routes = website(*NAMES, "figs-again")
    tenant.site.routes["/figs-again"] = tenant.site.routes["/figs"]
    tenant.run()
    assert tenant.rows("SELECT state, reason FROM gleaner.website_page WHERE url LIKE %s", "%/figs-again") == [
        ("skipped", "duplicate")
    ]
    del tenant.site.routes["/figs-again"]
    if not is_linked:
        tenant.site.routes |= {"/": website(*NAMES)["/"]}
    for _ in range(2 if is_linked else 1):
        tenant.run()
    assert tenant.states()["/figs-again"] == "gone"
    tenant.site.routes["/figs"] = page(article("quinces"))
    report = tenant.run()
    assert (report["planned_pages"], report["work"]["updated"], report["work"]["created"]) == (1, 1, 0)
    tenant.site.routes = website(*NAMES, "figs-again")
    tenant.run()
    assert texts(tenant)["/figs-again"] == article("figs-again")
