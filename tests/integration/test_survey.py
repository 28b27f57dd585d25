"""What a site repeats and near duplicates: stored once, and still there when the page that has it goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from include.gleaner import pipeline
from tests.support.tenant import Tenant

ROOT = Path(__file__).parents[2]
PROMISE = "Order before noon and the parcel leaves our house in Ghent on the very same day."
TOPICS = ("apples", "cherries", "figs", "melons", "pears", "quinces")


def about(topic: str) -> str:
    return f"The {topic} on this page are grown on the southern slope, and {topic} keep for a month in a cool room."


def page(title: str, *paragraphs: str, links: Sequence[str] = ()) -> str:
    menu = "".join(f'<a href="{link}">{link}</a> ' for link in links)
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return f"<html lang=en><title>{title}</title><nav>{menu}</nav><main><h1>{title}</h1>{body}</main></html>"


def shop(*topics: str, note: str = PROMISE) -> dict[str, Any]:
    links = [f"/{topic}" for topic in topics]
    welcome = "Welcome to the shop with fruit from our own garden, where everything is picked by hand."
    return {"/": page("Home", welcome, links=links)} | {
        f"/{topic}": page(topic.title(), about(topic), note) for topic in topics
    }


def texts(tenant: Tenant) -> dict[str, str]:
    found: dict[str, str] = {}
    for path, text in tenant.knowledge():
        found[path] = f"{found.get(path, '')}{text}\n"
    return found


def having(tenant: Tenant, text: str) -> list[str]:
    return [path for path, whole in texts(tenant).items() if text in whole]


def test_what_most_pages_say_stays_with_the_first_of_them(tenant: Tenant) -> None:
    tenant.site.routes = shop(*TOPICS)
    tenant.run()
    assert having(tenant, PROMISE) == ["/figs"]  # the shortest address
    assert all(about(topic) in texts(tenant)[f"/{topic}"] for topic in TOPICS)
    before = tenant.physical()
    report = tenant.run()
    assert (report["planned_pages"], report["work"]["embedded"]) == (0, 0)
    assert tenant.physical() == before


def test_what_a_few_pages_say_stays_on_each(tenant: Tenant) -> None:
    tenant.site.routes = shop(*TOPICS) | shop(*TOPICS[:3], note="Only in season.")
    tenant.site.routes["/"] = shop(*TOPICS)["/"]
    tenant.run()
    assert having(tenant, "Only in season.") == ["/apples", "/cherries", "/figs"]
    assert having(tenant, PROMISE) == ["/melons", "/pears", "/quinces"]


def test_a_repeat_outlives_the_page_that_had_it(tenant: Tenant) -> None:
    tenant.site.routes = shop(*TOPICS)
    tenant.run()
    tenant.site.routes = shop(*(topic for topic in TOPICS if topic != "figs"))
    for _ in range(3):  # it goes on the evidence of the first, and the second finds another page for what it had
        tenant.run()
    assert tenant.states()["/figs"] == "gone"
    assert having(tenant, PROMISE) == ["/pears"]
    calls = tenant.endpoint.stats().calls
    tenant.run()
    assert tenant.endpoint.stats().calls == calls


def test_what_becomes_a_repeat_goes_from_the_pages_that_were_loaded_before(tenant: Tenant) -> None:
    """The end is the same as if all pages had come at once, and pages that say nothing else are not touched."""
    tenant.site.routes = shop(*TOPICS[:2])
    tenant.run()
    assert having(tenant, PROMISE) == ["/apples", "/cherries"]
    tenant.site.routes = shop(*TOPICS)
    report = tenant.run()
    assert having(tenant, PROMISE) == ["/figs"]
    assert report["gap"] == {"pages_not_chunked": 0, "chunks_without_vector": 0, "unexplained": 0}
    grown = texts(tenant)
    tenant.name = "other"
    tenant.run()
    assert texts(tenant) == grown


LONG = " ".join(f"In step {word} of the recipe the fruit is {word} and stirred until it is soft." for word in (
    "washed", "peeled", "cored", "sliced", "salted", "sugared", "warmed", "cooked", "mashed", "strained", "cooled",
    "bottled", "sealed", "stored", "labelled", "shelved", "counted", "tasted", "chilled", "served",
))  # fmt: skip


def test_near_duplicates_are_loaded_once(tenant: Tenant) -> None:
    tenant.site.routes = {
        "/": page("Home", "Welcome to the kitchen of our house.",
                  links=["/jam", "/jam?view=print", "/jam?for=two", "/jelly"]),
        "/jam": page("Jam", LONG),
        "/jam?view=print": page("Jam", LONG.replace("stirred until it is soft.", "stirred until it is soft,", 1)),
        "/jam?for=two": page("Jam", f"{LONG} Take 2 pounds."),  # says something else: a number
        "/jelly": page("Jelly", LONG.replace("fruit", "juice")),
    }  # fmt: skip
    report = tenant.run()
    assert list(texts(tenant)) == ["/", "/jam", "/jam?for=two", "/jelly"]
    assert {"state": "skipped", "reason": "near_duplicate", "pages": 1} in report["pages"]
    rows = tenant.rows("SELECT alias_of FROM gleaner.website_page WHERE reason = 'near_duplicate'")
    assert rows == [(f"{tenant.site.url}jam",)]
    before = tenant.physical()
    assert tenant.run()["planned_pages"] == 0
    assert tenant.physical() == before


def test_a_near_duplicate_speaks_when_the_other_page_goes_or_changes(tenant: Tenant) -> None:
    links = ["/jam", "/jam?view=print"]
    tenant.site.routes = {
        "/": page("Home", "Welcome to the kitchen of our house.", links=links),
        "/jam": page("Jam", LONG),
        "/jam?view=print": page("Jam", f"{LONG} Enjoy."),
    }
    tenant.run()
    assert list(texts(tenant)) == ["/", "/jam"]
    tenant.site.routes["/jam"] = page("Jam", "The recipe has moved to the book that we sell in our shop.")
    tenant.run()
    assert "Enjoy." in texts(tenant)["/jam?view=print"]
    tenant.site.routes["/jam"] = page("Jam", LONG)
    tenant.run()
    assert list(texts(tenant)) == ["/", "/jam"]
    del tenant.site.routes["/jam"]
    for _ in range(3):
        tenant.run()
    assert "Enjoy." in texts(tenant)["/jam?view=print"]
    assert tenant.states()["/jam"] == "gone"


def test_a_near_duplicate_that_was_loaded_before_speaks_again(tenant: Tenant) -> None:
    links = ["/jam", "/jam?view=print"]
    other = "The recipe is in the book that we sell in our shop."
    tenant.site.routes = {
        "/": page("Home", "Welcome to the kitchen of our house.", links=links),
        "/jam": page("Jam", other),
        "/jam?view=print": page("Jam", f"{LONG} Enjoy."),
    }
    tenant.run()
    assert list(texts(tenant)) == ["/", "/jam", "/jam?view=print"]
    tenant.site.routes["/jam"] = page("Jam", LONG)
    tenant.run()
    assert list(texts(tenant)) == ["/", "/jam"]  # the other one's chunks are gone, and a fence is where they were
    tenant.site.routes["/jam"] = page("Jam", other)
    tenant.run()
    assert list(texts(tenant)) == ["/", "/jam", "/jam?view=print"]


@pytest.mark.parametrize("again", ["survey", "all"])
def test_a_survey_may_be_run_again(tenant: Tenant, again: str) -> None:
    tenant.site.routes = shop(*TOPICS)
    params = tenant.params()
    pipeline.crawl_website(params, "run-x")
    batches = pipeline.plan_batches(params, "run-x")
    for attempt in (1, 2) if again == "all" else (1,):
        for batch in batches:
            pipeline.process_pages(params, "run-x", batch, attempt)
        first, second = (pipeline.survey_site(params, "run-x") for _ in (1, 2))
        assert first == second
        for batch in first:
            pipeline.load_chunks(params, "run-x", batch, attempt)
    assert pipeline.survey_site(params, "run-x") == []
    pipeline.reconcile(params, "run-x")
    assert having(tenant, PROMISE) == ["/figs"]


def test_sites_and_tenants_are_apart(tenant: Tenant) -> None:
    tenant.site.routes = shop(*TOPICS)
    tenant.run()
    tenant.name = "other"
    tenant.run(include_patterns=["/$", "/apples", "/pears"])
    assert having(tenant, PROMISE) == ["/apples", "/pears"]  # two pages of this tenant are no habit


KILLED = """
import json, os, signal, sys
from include.gleaner import pipeline
from include.gleaner.pipeline import surveying

class Deadly(dict):
    def __getitem__(self, name):
        if name == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(name)

real = surveying.queries
surveying.queries = lambda name: Deadly(real(name))
pipeline.survey_site(json.loads(sys.argv[1]), "run-x")
"""


@pytest.mark.parametrize("step", ["mark_near_duplicates", "settle_repeats", "dropped_blocks"])
def test_a_survey_that_is_killed_is_run_again(tenant: Tenant, step: str) -> None:
    tenant.site.routes = shop(*TOPICS) | {"/jam": page("Jam", LONG), "/jam/print": page("Jam", f"{LONG} Enjoy.")}
    tenant.site.routes["/"] = page("Home", "Welcome.", links=[path for path in tenant.site.routes if path != "/"])
    params = tenant.params()
    pipeline.crawl_website(params, "run-x")
    for batch in pipeline.plan_batches(params, "run-x"):
        pipeline.process_pages(params, "run-x", batch, 1)
    command = [sys.executable, "-c", KILLED, json.dumps(params), step]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not tenant.rows("SELECT FROM gleaner.website_page WHERE reason = 'near_duplicate'")
    for batch in pipeline.survey_site(params, "run-x"):
        pipeline.load_chunks(params, "run-x", batch, 1)
    pipeline.reconcile(params, "run-x")
    assert having(tenant, PROMISE) == ["/figs"]
    assert having(tenant, LONG) == ["/jam"]
