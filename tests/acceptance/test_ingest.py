"""The main job as a user sees it: real Airflow, triggered through its REST API, real rows, real vectors."""

from __future__ import annotations

import json
import time
from importlib.resources import files
from typing import Any

import pytest
from lxml import html as lxml_html

from include.gleaner.config import EmbedPolicy
from include.gleaner.embed import open_embedder
from include.gleaner.errors import RequestError
from include.gleaner.local.website import SampleWebsite
from include.gleaner.pools import LOAD, PROCESS
from include.gleaner.report.run_report import gap_of
from include.gleaner.search import search
from tests.acceptance.conftest import DAG, Gleaner, Run
from tests.support.embedding_server import EmbeddingServer
from tests.support.static_site import StaticSite

KNOWLEDGE = (
    "SELECT source_id, chunk_type, chunk_index, embedding_model, content_hash, ctid, xmin, updated_at"
    " FROM gleaner.tenant_knowledge WHERE tenant_id = %s ORDER BY 1, 2, 3, 4"
)


def conf(gleaner: Gleaner, **more: Any) -> dict[str, Any]:
    return {"tenant": "sample", "url": gleaner.stack.website_url, "delay_seconds": 0, **more}


@pytest.fixture(scope="module")
def first(gleaner: Gleaner) -> Run:
    return gleaner.ingest(conf(gleaner))


def test_the_sample_website_becomes_knowledge(gleaner: Gleaner, first: Run) -> None:
    assert first.state == "success"
    assert first.report is not None
    assert gap_of(first.report) == 0
    states = dict(
        gleaner.rows("SELECT state, count(*) FROM gleaner.website_page WHERE tenant_id = 'sample' GROUP BY 1")
    )
    assert states == {"chunked": 25, "skipped": 3, "gone": 1}
    reasons = {
        url.split("/", 3)[3]: reason
        for url, reason in gleaner.rows(
            "SELECT url, reason FROM gleaner.website_page WHERE state IN ('skipped', 'gone')"
        )
    }
    assert reasons == {
        "old-catalogue": "redirect",
        "catalogue?ref=menu": "canonical",
        "events": "empty",
        "press-kit": "http_404",
    }
    types = dict(gleaner.rows("SELECT chunk_type, count(*) FROM gleaner.tenant_knowledge GROUP BY 1"))
    published = [json.loads(page.data) for page in SampleWebsite().pages.values() if page.data]
    assert types["faq"] == sum(len(data["mainEntity"]) for data in published if data["@type"] == "FAQPage") > 5
    assert types["product"] == sum(data["@type"] == "Product" for data in published) > 5
    assert types["website"] > 50
    assert gleaner.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NULL") == [(0,)]
    assert gleaner.rows("SELECT DISTINCT vector_dims(embedding) FROM gleaner.tenant_knowledge") == [(384,)]
    assert gleaner.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE full_text ~ 'cookie|کوکی'") == [(0,)]


def test_the_batches_are_named_and_stay_in_their_pools(first: Run) -> None:
    mapped = [task for task in first.tasks if task["map_index"] >= 0]
    assert {task["pool"] for task in mapped} == {PROCESS.name, LOAD.name}
    assert all(task["rendered_map_index"].startswith("batch ") for task in mapped), mapped[0]["rendered_map_index"]
    assert {task["state"] for task in first.tasks} == {"success"}
    assert {task["try_number"] for task in first.tasks} == {1}


def test_ten_chunks_of_one_page_are_ten_rows_under_the_constraint(gleaner: Gleaner, first: Run) -> None:
    assert gleaner.rows(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'unique_chunk_per_source'"
    ) == [("UNIQUE (tenant_id, source_id, chunk_type, chunk_index, embedding_model)",)]
    for page, chunks, numbers in gleaner.rows(
        "SELECT source_id, count(*), array_agg(chunk_index ORDER BY chunk_index) FROM gleaner.tenant_knowledge"
        " WHERE chunk_type = 'website' GROUP BY source_id"
    ):
        assert numbers == list(range(chunks)), page


def test_a_second_run_leaves_the_same_rows_and_asks_for_no_vector(gleaner: Gleaner, first: Run) -> None:
    before = gleaner.rows(KNOWLEDGE, "sample")
    second = gleaner.ingest(conf(gleaner))
    assert second.state == "success"
    assert gleaner.rows(KNOWLEDGE, "sample") == before
    assert second.report is not None
    assert (second.report["work"]["embedded"], second.report["planned_pages"]) == (0, 0)
    assert {task["state"] for task in second.tasks if task["task_id"] in ("process", "survey", "load")} <= {"skipped"}


@pytest.mark.parametrize(
    "question",
    json.loads(files("include.gleaner.local").joinpath("site/questions.json").read_text("utf-8")),
    ids=lambda question: f"{question['language']}{question['page']}",
)
def test_questions_in_both_languages_find_their_page(gleaner: Gleaner, first: Run, question: dict[str, str]) -> None:
    embedder = open_embedder(EmbedPolicy(), None)
    vector = embedder.embed_query(question["question"])
    with gleaner.connect() as conn:
        hits = search(
            conn, tenant_id="sample", query=question["question"], vector=vector, model=embedder.model, limit=3
        )
        assert any(hit.page_url.endswith(question["page"]) and question["contains"] in hit.full_text for hit in hits)
        assert not search(conn, tenant_id="other", query=question["question"], vector=vector, model=embedder.model)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"tenant": "Not A Tenant"}, "tenant"),
        ({"url": "not an address"}, "url"),
        ({"url": "ftp://example.com/"}, "url"),
        ({"max_pages": 0}, "max_pages"),
        ({"max_pages": "many"}, "max_pages"),
        ({"chunk_overlap": 90}, "chunk_overlap"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"include_patterns": "a"}, "include_patterns"),
        ({"tenant": None}, "tenant"),
    ],
)
def test_bad_conf_is_refused_before_anything_runs(gleaner: Gleaner, bad: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match="400") as caught:
        gleaner.api.trigger(DAG, conf(gleaner) | bad)
    assert told in str(caught.value)


def test_a_misspelt_param_fails_the_run_at_its_first_task(gleaner: Gleaner) -> None:
    run = gleaner.ingest(conf(gleaner, max_page=3))
    assert run.state == "failed"
    tries = {task["task_id"]: (task["state"], task["try_number"]) for task in run.tasks}
    assert tries["crawl"] == ("failed", 1)  # asking again would change nothing: no retries


def test_a_host_on_loopback_that_no_setting_names_is_refused(gleaner: Gleaner) -> None:
    port = gleaner.stack.postgres.port
    run = gleaner.ingest({"tenant": "intruder", "url": f"http://127.0.0.1:{port}/", "delay_seconds": 0})
    assert run.state == "failed"
    assert [task["try_number"] for task in run.tasks if task["task_id"] == "crawl"] == [1]
    assert gleaner.rows("SELECT state FROM gleaner.crawl_job WHERE tenant_id = 'intruder'") == [("failed",)]
    assert gleaner.rows("SELECT count(*) FROM gleaner.page_snapshot WHERE tenant_id = 'intruder'") == [(0,)]


@pytest.fixture(scope="module")
def handbook_run(gleaner: Gleaner, handbook: StaticSite, connection: None) -> Run:
    return gleaner.ingest({"tenant": "debian", "url": handbook.url, "delay_seconds": 0, "max_pages": 400})


def test_a_real_site_of_254_pages(
    gleaner: Gleaner, handbook: StaticSite, handbook_run: Run, endpoint: EmbeddingServer
) -> None:
    assert handbook_run.state == "success"
    assert handbook_run.report is not None
    assert gap_of(handbook_run.report) == 0
    assert handbook_run.report["crawl"]["state"] == "complete"
    pages = gleaner.rows("SELECT count(DISTINCT source_id) FROM gleaner.tenant_knowledge WHERE tenant_id = 'debian'")
    assert pages[0][0] >= 150
    assert gleaner.rows(
        "SELECT DISTINCT embedding_model, vector_dims(embedding) FROM gleaner.tenant_knowledge"
        " WHERE tenant_id = 'debian'"
    ) == [("text-embedding-3-small", 1_536)]
    languages = dict(
        gleaner.rows("SELECT language, count(*) FROM gleaner.tenant_knowledge WHERE tenant_id = 'debian' GROUP BY 1")
    )
    assert languages["en"] > 100
    assert languages["fa"] > 20
    assert len(handbook_run.tasks) <= 20
    assert max(handbook.requests.values()) <= 2  # the page, and perhaps once more as an index


def test_sections_and_text_are_those_of_the_files(gleaner: Gleaner, handbook: StaticSite, handbook_run: Run) -> None:
    missing: list[str] = []
    words = lost = pages = headings = 0
    for url, titles, texts in gleaner.rows(
        "SELECT p.url, string_agg(k.section_title, ' '), string_agg(k.full_text, ' ' ORDER BY k.chunk_index)"
        " FROM gleaner.tenant_knowledge k"
        " JOIN gleaner.website_page p ON p.tenant_id = k.tenant_id AND p.page_id = k.source_id"
        " WHERE k.tenant_id = 'debian' GROUP BY p.url"
    ):
        file = handbook.folder / url.removeprefix(handbook.url)
        if not file.is_file() or file.parent == handbook.folder:
            continue
        pages += 1
        tree = lxml_html.fromstring(file.read_bytes(), parser=lxml_html.HTMLParser(encoding="utf-8"))
        stored = squeeze(f"{texts} {titles}")
        for heading in tree.xpath("//*[contains(@class, 'section') or contains(@class, 'chapter')]//*[@class='title']"):
            text = squeeze(heading.text_content())
            headings += 1
            if text and text not in stored:
                missing.append(f"{url}: {heading.text_content()!r}")
        for paragraph in tree.xpath("//div[@class='para'] | //pre"):
            if paragraph.xpath("ancestor::*[contains(@class, 'toc') or contains(@class, 'footer')]"):
                continue
            if paragraph.xpath(".//div | .//ul | .//ol | .//table | .//pre"):
                continue  # its parts are looked at one by one
            text = squeeze(paragraph.text_content())
            words += len(text)
            lost += 0 if text in stored else len(text)
    assert pages >= 150
    assert words > 500_000
    assert len(missing) / headings < 0.01, missing[:5]
    assert lost / words < 0.01


def squeeze(text: str) -> str:
    """Without any white space: only letters and signs are compared."""
    return "".join(text.split())


def test_an_unchanged_real_site_costs_nothing(
    gleaner: Gleaner, handbook: StaticSite, handbook_run: Run, endpoint: EmbeddingServer
) -> None:
    before, calls, answered = gleaner.rows(KNOWLEDGE, "debian"), endpoint.stats().calls, handbook.unchanged
    again = gleaner.ingest({"tenant": "debian", "url": handbook.url, "delay_seconds": 0, "max_pages": 400})
    assert again.state == "success"
    assert gleaner.rows(KNOWLEDGE, "debian") == before
    assert endpoint.stats().calls == calls
    assert handbook.unchanged - answered >= 250


def test_missing_vectors_are_filled_in_by_maintenance(gleaner: Gleaner, handbook_run: Run) -> None:
    assert handbook_run.state == "success"
    missing = "SELECT count(*) FROM gleaner.tenant_knowledge WHERE tenant_id = 'debian' AND embedding IS NULL"
    with gleaner.connect() as conn:
        conn.execute(
            "UPDATE gleaner.tenant_knowledge SET embedding = NULL, content_hash = ''"
            " WHERE tenant_id = 'debian' AND full_text LIKE '%%apt-get%%'"
        )
        conn.execute("UPDATE gleaner.knowledge_generation SET set_hash = '' WHERE tenant_id = 'debian'")
    ((before,),) = gleaner.rows(missing)
    assert before > 0
    gleaner.api.unpause("maintain_knowledge")
    run_id = gleaner.api.trigger("maintain_knowledge", {})
    deadline = time.monotonic() + 180
    while (state := gleaner.api.dag_run("maintain_knowledge", run_id)["state"]) not in ("success", "failed"):
        gleaner.stack.airflow.check()
        assert time.monotonic() < deadline, state
        time.sleep(0.3)
    assert state == "success"
    assert gleaner.rows(missing) == [(0,)]
