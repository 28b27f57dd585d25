"""Pages that are still there and say nothing of what they said: outages with status 200, another text on each page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from include.gleaner import pipeline
from tests.support.tenant import Tenant
from tests.support.website import page

PATHS = tuple(f"/pump/{number}" for number in range(12))
PARTS = ("filter", "valve", "gasket", "housing", "motor", "hose", "blade", "switch", "lid", "shaft", "spring", "plug")
STARS = (
    "Vega",
    "Sirius",
    "Rigel",
    "Altair",
    "Deneb",
    "Spica",
    "Mira",
    "Castor",
    "Pollux",
    "Regulus",
    "Antares",
    "Capella",
)


def about(number: int) -> str:
    part = PARTS[number]
    return (
        f"The {part} of pump {number} is cleaned with warm water once a month. Dry the {part} well before the pump "
        f"runs again, and order a new {part} under the number {number * 317 + 4000} when it is worn."
    )


def shop(texts: dict[int, str] | None = None) -> dict[str, Any]:
    texts = {**{number: about(number) for number in range(len(PATHS))}, **(texts or {})}
    return {"/": page("Pumps of every kind", *PATHS), **{PATHS[number]: page(text) for number, text in texts.items()}}


def by_node(number: int) -> str:
    return f"Node {STARS[number]} did not answer in time ({number * 7919:x}). Please come again in some minutes."


def by_word(number: int) -> str:
    return " ".join((STARS[number], PARTS[-number], str(number * 7919)))


def told(tenant: Tenant, path: str) -> str:
    return "\n".join(text for its_path, text in tenant.knowledge() if its_path == path)


@pytest.mark.parametrize("answer", [by_node, by_word])
def test_a_site_whose_pages_each_say_another_error_keeps_its_knowledge(
    tenant: Tenant, answer: Callable[[int], str]
) -> None:
    tenant.site.routes = shop()
    tenant.run()
    known = tenant.knowledge()
    tenant.site.routes = shop({number: answer(number) for number in range(len(PATHS))})
    for _ in range(3):
        report = tenant.run()
        assert report["retired"] == {"retired": 0, "held_back": len(PATHS)}
        assert tenant.knowledge() == known
    tenant.site.routes = shop()
    assert tenant.run()["retired"] == {"retired": 0, "held_back": 0}
    assert tenant.knowledge() == known
    assert set(tenant.states().values()) == {"chunked"}


def test_what_a_site_really_says_now_is_let_through(tenant: Tenant) -> None:
    tenant.site.routes = shop()
    tenant.run()
    tenant.site.routes = shop({number: by_node(number) for number in range(len(PATHS))})
    tenant.run()
    assert tenant.run(max_delete_share=1.0)["retired"] == {"retired": 0, "held_back": 0}
    assert all(STARS[number] in told(tenant, PATHS[number]) for number in range(len(PATHS)))


def test_a_few_pages_may_always_change(tenant: Tenant) -> None:
    tenant.site.routes = shop()
    tenant.run()
    tenant.site.routes = shop({number: by_node(number) for number in range(3)})
    assert tenant.run()["retired"]["held_back"] == 0
    assert all(STARS[number] in told(tenant, PATHS[number]) for number in range(3))


def test_a_new_text_of_some_length_is_no_loss(tenant: Tenant) -> None:
    def rewritten(number: int) -> str:
        return " ".join(
            f"Engineers at {star} measured {PARTS[number]} wear over {number + 2} winters." for star in STARS
        )

    tenant.site.routes = shop()
    tenant.run()
    tenant.site.routes = shop({number: rewritten(number) for number in range(len(PATHS))})
    assert tenant.run()["retired"]["held_back"] == 0
    assert all("winters" in told(tenant, path) for path in PATHS)


def test_pages_that_are_cut_short_are_no_loss(tenant: Tenant) -> None:
    tenant.site.routes = shop()
    tenant.run()
    tenant.site.routes = shop({number: about(number).partition(".")[0] + "." for number in range(len(PATHS))})
    assert tenant.run()["retired"]["held_back"] == 0
    assert not any("order a new" in text for _, text in tenant.knowledge())


def test_a_website_of_three_pages_is_not_overwritten_either(tenant: Tenant) -> None:
    def small(text: Callable[[int], str]) -> dict[str, Any]:
        return {"/": page(text(0), "/a", "/b"), "/a": page(text(1)), "/b": page(text(2))}

    tenant.site.routes = small(about)
    tenant.run()
    known = tenant.knowledge()
    tenant.site.routes = small(by_node) | {"/": page(by_node(0), "/a", "/b")}
    assert tenant.run()["retired"] == {"retired": 0, "held_back": 3}
    assert tenant.knowledge() == known


def test_what_is_held_back_is_not_loaded_by_the_maintenance(tenant: Tenant) -> None:
    tenant.site.routes = shop()
    tenant.run()
    known = tenant.knowledge()
    tenant.site.routes = shop({number: by_node(number) for number in range(len(PATHS))})
    params = tenant.params()
    pipeline.crawl_website(params, "dies")  # and nothing of this run goes on
    for batch in pipeline.plan_batches(params, "dies"):
        pipeline.process_pages(params, "dies", batch, 1)
    tenant.conn.execute("UPDATE gleaner.crawl_job SET started_at = now() - interval '1 day' WHERE run_id = 'dies'")
    found = pipeline.find_pages_to_mend("maintenance")
    assert found
    for batch in found:
        pipeline.mend_pages(batch, 1)
    assert tenant.knowledge() == known


def test_pages_that_name_one_address_but_are_others_are_all_stored(tenant: Tenant) -> None:
    head = "<link rel=canonical href=/start>"
    tenant.site.routes = shop() | {"/start": page("Choose a country and a language, please.")}
    tenant.site.routes |= {path: page(about(number), "/start", head=head) for number, path in enumerate(PATHS)}
    tenant.run()
    assert all(about(number) in told(tenant, path) for number, path in enumerate(PATHS))
    known = tenant.knowledge()
    assert tenant.run()["retired"] == {"retired": 0, "held_back": 0}
    assert tenant.knowledge() == known


def test_a_template_that_forgets_the_parameter_is_not_believed(tenant: Tenant) -> None:
    head = "<link rel=canonical href=/show>"
    paths = [f"/show?pump={number}" for number in range(len(PATHS))]
    tenant.site.routes = {"/": page("Pumps of every kind", *paths), "/show": page("Choose a pump.", head=head)}
    tenant.site.routes |= {path: page(about(number), head=head) for number, path in enumerate(paths)}
    tenant.run()
    assert all(about(number) in told(tenant, path) for number, path in enumerate(paths))


def test_lists_that_parameters_sort_are_one_page(tenant: Tenant) -> None:
    def listed(numbers: list[int]) -> str:
        lines = "".join(f"<p>{about(number)}</p>" for number in numbers)
        return f"<html><head><title>All pumps</title><link rel=canonical href=/list></head><body>{lines}</body></html>"

    views = {"/list": listed(list(range(12)))} | {f"/list?sort={by}": listed(list(range(by, 12)) + list(range(by)))
                                                  for by in range(1, 6)}  # fmt: skip
    narrowed = {f"/list?only={part}": listed([part]).replace("cleaned", f"kept by {STARS[part]}") for part in range(6)}
    tenant.site.routes = {"/": page("Pumps of every kind", *views, *narrowed), **views, **narrowed}
    tenant.run()
    assert {path for path, _ in tenant.knowledge()} == {"/", "/list"}


def test_print_versions_of_pages_are_one_page_each(tenant: Tenant) -> None:
    """A group of one address has three names, and all say the same: the address is right."""
    text = page(about(1), head="<link rel=canonical href=/pump/1>")
    names = ("/print/pump/1", "/amp/pump/1", "/a/pump/1", "/b/pump/1")
    tenant.site.routes = {"/": page("Pumps", "/pump/1", *names), "/pump/1": text}
    tenant.site.routes |= {name: text + f"<!-- {name} -->" for name in names}
    tenant.run()
    assert {path for path, _ in tenant.knowledge()} == {"/", "/pump/1"}
