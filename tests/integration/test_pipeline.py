"""The pipeline's functions in the order of the DAG, without a scheduler: real servers, database and strict endpoint."""

from __future__ import annotations

import json

import numpy as np

from include.gleaner import pipeline
from include.gleaner.search import search
from tests.support.articles import article, website
from tests.support.tenant import Tenant
from tests.support.website import Reply, page


def test_a_whole_run_and_the_same_again(tenant: Tenant) -> None:
    tenant.site.routes = website("apples", "pears")
    report = tenant.run()
    assert [path for path, _ in tenant.knowledge()] == ["/", "/apples", "/pears"]
    assert article("pears") in tenant.knowledge()[2][1]
    assert report["gap"] == {"pages_not_chunked": 0, "chunks_without_vector": 0, "unexplained": 0}
    assert report["work"]["created"] == 3
    assert tenant.endpoint.stats().calls == 1
    before = tenant.physical()
    report = tenant.run()
    assert (report["planned_pages"], report["work"]["embedded"]) == (0, 0)
    assert tenant.physical() == before
    assert tenant.endpoint.stats().calls == 1


def test_one_changed_page_costs_its_own_texts_only(tenant: Tenant) -> None:
    tenant.site.routes = website("apples", "pears")
    tenant.run()
    tenant.site.routes["/pears"] = page(article("quinces"))
    report = tenant.run()
    assert (report["planned_pages"], report["work"]["embedded"], report["work"]["updated"]) == (1, 1, 1)
    assert tenant.endpoint.stats().inputs == 4
    assert article("quinces") in tenant.knowledge()[2][1]


def test_a_text_that_moves_to_another_page_is_not_paid_again(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    tenant.run()
    tenant.site.routes = website("apples", "fruit")
    tenant.site.routes["/fruit"] = Reply(body=page(article("apples")) + "<!-- other bytes -->")
    report = tenant.run()
    assert report["work"]["created"] == 1
    # The home page has a new link but says the same; the new page says what another one says already.
    assert report["work"]["embedded"] <= 1
    assert max(tenant.endpoint.times_answered(text) for text in embedded_texts(tenant)) == 1


def embedded_texts(tenant: Tenant) -> list[str]:
    return [
        f"{title}\n\n{text}" if title else text
        for title, text in tenant.rows("SELECT section_title, full_text FROM gleaner.tenant_knowledge")
    ]


def test_other_policies_chunk_again(tenant: Tenant) -> None:
    long = " ".join(f"Sentence number {number} says something of its own about apples." for number in range(60))
    tenant.site.routes = {"/": page(long)}
    tenant.run()
    assert len(tenant.knowledge()) == 2
    tenant.run(chunk_tokens=100)
    texts = [text for _, text in tenant.knowledge()]
    assert len(texts) > 6
    assert "".join("".join(texts).split()).count("number17") == 1
    tenant.run()
    assert len(tenant.knowledge()) == 2


def test_the_gist_of_a_long_chunk_may_have_a_vector_of_its_own(tenant: Tenant) -> None:
    long = " ".join(f"Valve {number} opens when the soil of bed {number} is dry." for number in range(20))
    tenant.site.routes = {"/": page("Welcome to the home page.", "/valves"), "/valves": page(long)}
    gists = "SELECT section_title, tldr, tldr_embedding::text FROM gleaner.tenant_knowledge WHERE tldr_hash IS NOT NULL"
    tenant.run()
    assert not tenant.rows(gists)
    inputs = tenant.endpoint.stats().inputs
    report = tenant.run(embed_tldr=True)
    assert tenant.endpoint.stats().inputs == inputs + 1  # the short page is its own gist
    assert (report["work"]["embedded"], report["work"]["reused"], report["work"]["updated"]) == (1, 2, 1)
    ((title, tldr, vector),) = tenant.rows(gists)
    assert tldr in long
    assert tenant.run(embed_tldr=True)["planned_pages"] == 0
    hits = search(
        tenant.conn, tenant_id="acme", query="zzz", vector=np.array(json.loads(vector), np.float32),
        model="text-embedding-3-small", limit=2,
    )  # fmt: skip
    assert hits[0].section_title == title
    assert hits[0].full_text == long
    tenant.run()
    assert not tenant.rows(gists)
    assert tenant.endpoint.stats().inputs == inputs + 1


def test_tasks_may_be_run_again_in_any_order(tenant: Tenant) -> None:
    tenant.site.routes = website("apples", "pears")
    params = tenant.params()
    for _ in (1, 2):
        pipeline.crawl_website(params, "run-x")
    batches = pipeline.plan_batches(params, "run-x")
    for attempt in (1, 2):
        for batch in batches:
            pipeline.process_pages(params, "run-x", batch, attempt)
            pipeline.load_chunks(params, "run-x", batch, attempt)
    before = tenant.physical()
    assert pipeline.plan_batches(params, "run-x") == []
    first = pipeline.reconcile(params, "run-x")
    assert pipeline.reconcile(params, "run-x")["work"] == first["work"]
    assert tenant.physical() == before
    assert tenant.endpoint.stats().calls == 1


def test_two_tenants_with_the_same_site(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    tenant.run()
    other = Tenant(site=tenant.site, endpoint=tenant.endpoint, conn=tenant.conn, name="other")
    other.run()
    assert other.knowledge() == tenant.knowledge()
    tenant.site.routes["/apples"] = page(article("pears"))
    other.run()
    assert article("apples") in tenant.knowledge()[1][1]
    assert article("pears") in other.knowledge()[1][1]
