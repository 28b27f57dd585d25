"""rebuild_knowledge and maintain_knowledge announce the websites whose rows they changed, with what they wrote."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.gleaner import pipeline
from include.gleaner.assets import ANNOUNCED, TENANT_KNOWLEDGE, announce, knowledge_of
from include.gleaner.pipeline import announcing
from include.gleaner.pipeline.announcing import by_tenant
from tests.support.articles import website
from tests.support.rework import (
    DAY,
    damage,
    end_of_pause,
    fetched_on,
    later,
    left_behind,
    mend,
    rebuild,
    without_content,
    without_vectors,
)
from tests.support.tenant import Tenant

INTERVAL = (DAY, DAY + timedelta(days=1))


@pytest.fixture
def loaded(tenant: Tenant) -> Tenant:
    tenant.site.routes = website("apples", "pears")
    tenant.run()
    fetched_on(tenant, DAY, "/apples", "/pears")
    return tenant


def test_a_rebuild_tells_of_the_websites_that_it_changed(loaded: Tenant) -> None:
    damage(loaded)
    rebuild()
    (told,) = pipeline.rebuilt_websites({}, "day", INTERVAL)
    assert (told["tenant"], told["source"], told["websites"]) == ("acme", loaded.site.url, 1)
    counts = {name: told["work"][name] for name in ("chunks", "created", "updated", "unchanged", "deleted")}
    assert counts == {"chunks": 2, "created": 0, "updated": 2, "unchanged": 0, "deleted": 0}
    assert told["gap"] == {"pages_not_chunked": 0, "chunks_without_vector": 0, "unexplained": 0}
    assert pipeline.rebuilt_websites({"tenant": "acme"}, "day", INTERVAL) == [told]
    assert pipeline.rebuilt_websites({"tenant": "other"}, "day", INTERVAL) == []
    assert pipeline.rebuilt_websites({"dry_run": True}, "day", INTERVAL) == []


def test_a_rebuild_that_changed_nothing_tells_nothing(loaded: Tenant) -> None:
    rebuild()
    assert pipeline.rebuilt_websites({}, "day", INTERVAL) == []


def test_a_rebuild_tells_of_what_it_removed(loaded: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    without_content(monkeypatch)
    rebuild()
    (told,) = pipeline.rebuilt_websites({}, "day", INTERVAL)
    assert (told["retired"], told["work"]["created"]) == (2, 0)


def test_maintenance_tells_of_what_it_loaded(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    left_behind(tenant, processed=True)
    later(tenant, "13 hours")
    began = datetime.now(UTC)
    batches = mend()
    (told,) = pipeline.maintained_websites([], batches, "now", began)
    assert (told["source"], told["work"]["created"], told["work"]["embedded"]) == (tenant.site.url, 2, 2)
    assert pipeline.maintained_websites(None, mend("next"), "next", datetime.now(UTC)) == []
    assert pipeline.maintained_websites(None, None, "next", began) == []


def test_maintenance_tells_of_what_it_filled_in_and_not_of_what_an_earlier_run_did(tenant: Tenant) -> None:
    without_vectors(tenant)
    end_of_pause(tenant)
    began = datetime.now(UTC)
    found = pipeline.find_missing_vectors()
    for batch in found:
        pipeline.fill_vectors(batch, 1)
    (told,) = pipeline.maintained_websites(found, [], "now", began)
    assert (told["tenant"], told["work"]["updated"], told["gap"]["chunks_without_vector"]) == ("acme", 5, 0)
    # Found again by the next run, which has nothing to do.
    assert pipeline.maintained_websites(found, [], "next", datetime.now(UTC)) == []


def test_of_very_many_websites_each_tenants_sums_are_told(loaded: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(loaded)
    rebuild()
    monkeypatch.setattr(announcing, "MOST_WEBSITES", 0)
    (told,) = pipeline.rebuilt_websites({}, "day", INTERVAL)
    assert (told["source"], told["websites"], told["work"]["updated"]) == (None, 1, 2)
    two = {**told, "work": {"updated": 3}, "gap": {"unexplained": 1}}
    other = {**two, "tenant": "other"}
    first, second = by_tenant([two, other, two])
    assert (first["websites"], first["work"], first["gap"]) == (2, {"updated": 6}, {"unexplained": 2})
    assert (second["tenant"], second["websites"], second["work"]) == ("other", 1, {"updated": 3})


def test_what_is_announced_says_which_table_and_when(loaded: Tenant) -> None:
    class Events:
        def __init__(self) -> None:
            self.added: list[tuple[str, dict[str, Any]]] = []

        def add(self, asset: Any, extra: dict[str, Any]) -> None:
            self.added.append((asset.name, extra))

    damage(loaded)
    rebuild()
    events = Events()
    for told in pipeline.rebuilt_websites({}, "day", INTERVAL):
        announce({ANNOUNCED: events}, told["tenant"], told)
    assert [name for name, _ in events.added] == [TENANT_KNOWLEDGE.name, knowledge_of("acme").name]
    extra = events.added[0][1]
    assert (extra["table"], extra["source"], extra["work"]["updated"]) == (
        "gleaner.tenant_knowledge",
        loaded.site.url,
        2,
    )
    assert datetime.fromisoformat(extra["at"]) <= datetime.now(UTC)
