"""The page "Knowledge" as a user has it: within Airflow, with a real browser, on what the pipeline stored."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

import psycopg
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from include.gleaner.local.stack import Stack
from tests.browser.conftest import DAG
from tests.browser.views import TENANT, address, frame, opened

PHONE = {"width": 375, "height": 800}
SHOTS = {("websites", "light"), ("run", "light"), ("page", "dark"), ("search", "phone")}  # in docs/images
VIEWS = ("websites", "pages", "page", "failures", "search", "runs", "run", "forgotten", "tenants")


@pytest.fixture
def watched(page: Page) -> Iterator[list[str]]:
    """What goes wrong on the page: errors, and what its content security policy has to stop."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (found.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("console", lambda line: found.append(line.text) if "Content Security Policy" in line.text else None)
    yield found
    assert found == []


def set_paused(page: Page, paused: bool) -> None:
    """The DAG, by the session of the page."""
    change = "async paused => (await fetch('../api/v2/dags/ingest_website', {method: 'PATCH', headers: {'Content-Type':"
    change += " 'application/json'}, body: JSON.stringify({is_paused: paused})})).status"
    assert page.evaluate(change, paused) == 200


def test_it_is_in_the_navigation_and_on_the_dags(page: Page, stack: Stack, stored: None, watched: list[str]) -> None:
    page.locator("a[href$='/plugin/gleaner']").click()
    expect(frame(page).get_by_role("heading", name="Websites")).to_be_visible()
    card = frame(page).locator(".card", has_text=TENANT).first
    expect(card.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
    expect(card).to_contain_text(re.compile(r"\d+ chunked"))
    expect(card).to_contain_text(re.compile("refreshed every 1 day, next in 2\\d hours"))
    with page.context.expect_page() as tab:  # out of the frame, which may not open tabs by itself
        card.get_by_role("link", name="Open").click()
    expect(tab.value).to_have_url(re.compile(re.escape(str(stack.website_url))))
    assert tab.value.evaluate("window.opener") is None
    tab.value.close()
    card.get_by_role("link", name="Pages").click()
    expect(frame(page).get_by_role("heading", name="Pages of")).to_be_visible()
    page.goto(f"{stack.airflow.url}/dags/{DAG}")
    page.locator("a[href$='/plugin/gleaner_dag']").click()
    expect(frame(page).get_by_role("heading", name="Websites")).to_be_visible()


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_every_view_can_be_used_by_everybody(
    page: Page, stack: Stack, ids: dict[str, str], watched: list[str], look: str
) -> None:
    """No serious or critical finding of axe, in both themes; on a phone nothing is wider than the screen."""
    page.emulate_media(color_scheme="dark" if look == "dark" else "light")
    if look == "phone":
        page.set_viewport_size(PHONE)
    for view in VIEWS:
        main = opened(page, address(stack, view, ids))
        assert main.locator(".problem").count() == 0, view
        assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if look == "dark" else "light")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{view} is {wide} px wider than the screen"
        found = Axe().run(page).response["violations"]
        assert len(page.evaluate("Object.keys(axe.getRules())")) > 50
        if (folder := os.environ.get("GLEANER_SCREENSHOTS")) and (view, look) in SHOTS:
            page.screenshot(path=f"{folder}/knowledge-{view}-{look}.png", full_page=look != "phone")
        serious = [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found
                   if one["impact"] in ("serious", "critical")]  # fmt: skip
        assert serious == [], view


def between(left: Locator, right: Locator) -> float:
    """Pixels from where the one ends to where the other begins."""
    first, second = left.bounding_box(), right.bounding_box()
    assert first is not None
    assert second is not None
    return second["x"] - (first["x"] + first["width"])


def test_it_follows_the_theme_and_the_direction_of_airflow(page: Page, stack: Stack, stored: None) -> None:
    page.goto(f"{stack.airflow.url}/plugin/gleaner")
    root = frame(page).locator("html")
    expect(root).to_have_attribute("data-theme", "light")
    page.evaluate("document.documentElement.classList.replace('light', 'dark')")
    expect(root).to_have_attribute("data-theme", "dark")
    title, button = frame(page).get_by_role("heading", name="Websites"), frame(page).get_by_text("Ingest a website")
    page.evaluate("document.documentElement.dir = 'ltr'")
    before = between(title, button)
    assert before > 200  # the button is at the far end
    page.evaluate("document.documentElement.dir = 'rtl'")
    expect(root).to_have_attribute("dir", "rtl")
    assert between(button, title) == pytest.approx(before, abs=2)


def test_persian_text_runs_from_right_to_left_on_an_english_page(page: Page, stack: Stack, ids: dict[str, str]) -> None:
    main = opened(page, address(stack, "page", ids))
    text = main.locator(".chunks .text").first
    expect(text).to_have_attribute("dir", "auto")
    assert text.evaluate("element => getComputedStyle(element).direction") == "rtl"
    assert page.evaluate("document.documentElement.dir") == "ltr"


def test_pages_are_found_by_state_and_address(page: Page, stack: Stack, ids: dict[str, str]) -> None:
    main = opened(page, address(stack, "pages", ids))
    main.get_by_label("Address contains").fill("products")
    main.get_by_label("State").select_option("chunked")
    main.get_by_role("button", name="Show").click()
    expect(main.locator(".row").first).to_contain_text("products")
    assert main.locator(".row").count() < 12
    assert main.locator(".row", has_not_text="products").count() == 0
    main.get_by_label("Address contains").fill("")
    main.get_by_label("State").select_option("gone")
    main.get_by_role("button", name="Show").click()
    expect(main.locator(".row")).to_have_count(1)  # the one dead link of the sample website
    expect(main.locator(".row")).to_contain_text("/press-kit")


def test_the_search_and_where_a_hit_comes_from(page: Page, stack: Stack, ids: dict[str, str]) -> None:
    main = opened(page, f"{stack.airflow.url}/gleaner/#search?tenant={TENANT}")
    main.get_by_label("Question").fill("how long does the battery last")
    main.get_by_role("button", name="Search").click()
    best = main.locator("ol .card").first
    for score in ("fused", "dense", "lexical"):
        expect(best).to_contain_text(re.compile(rf"{score} 0\.\d{{3}}"))
    best.get_by_role("heading").get_by_role("link").click()
    expect(page.locator("main .chunks")).to_contain_text("attery")
    page.get_by_role("button", name="Show what the website sent").click()
    expect(page.locator("main pre")).to_contain_text("<!doctype html>")


def test_charts_of_a_run(page: Page, stack: Stack, ids: dict[str, str]) -> None:
    main = opened(page, address(stack, "run", ids))
    for title, series in (("Pace", ("crawl", "process", "load")), ("Queue", ("at work", "waiting"))):
        picture = main.get_by_role("img", name=re.compile(f"^{title}"))
        for name in series:
            expect(picture).to_have_attribute("aria-label", re.compile(f"{name} up to [0-9.]+"))
        drawn = [len(path.get_attribute("d") or "") > 10 for path in picture.locator("path").all()]
        assert all(drawn if title == "Pace" else drawn[:1])  # it may be that nothing waited
        assert len(drawn) == len(series)
    expect(main.get_by_text("Report")).to_be_visible()
    expect(main.locator(".report")).to_contain_text("pages not chunked")


def test_a_website_is_ingested_paused_refreshed_and_forgotten_by_its_buttons(
    page: Page, stack: Stack, stored: None, watched: list[str]
) -> None:
    tenant, api = "by-button", stack.airflow.api
    main = opened(page, f"{stack.airflow.url}/gleaner/#websites?tenant={tenant}")
    main.get_by_role("button", name="Ingest a website").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Address").fill("http://10.0.0.1/")
    dialog.get_by_label("Pages at most").fill("3")
    dialog.get_by_label("Tenant").fill("Not A Tenant")
    dialog.get_by_role("button", name="Ingest").click()
    expect(dialog.locator("input:invalid")).to_have_attribute("name", "tenant")  # the browser itself says so
    expect(dialog).to_be_visible()
    dialog.get_by_label("Tenant").fill(tenant)
    dialog.get_by_label("Address").fill(str(stack.website_url))
    dialog.get_by_role("button", name="Ingest").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("status").first).to_contain_text("Started: manual__")
    card = main.locator(".card")
    deadline = time.monotonic() + 120
    while True:
        runs = [run for run in api.runs(DAG) if run["conf"]["tenant"] == tenant]
        assert time.monotonic() < deadline
        if runs and runs[0]["state"] in ("success", "failed"):
            break
        page.wait_for_timeout(500)
    assert runs[0]["state"] == "success"
    page.reload()
    expect(card).to_contain_text("3 chunked")

    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    card.get_by_role("button", name="Pause").click()
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert sent == []  # nothing was done
    card.get_by_role("button", name="Pause").click()
    dialog.get_by_role("button", name="Pause").click()
    expect(card).to_contain_text("refreshes are paused")
    card.get_by_role("button", name="Resume").click()
    dialog.get_by_role("button", name="Resume").click()
    expect(card.get_by_role("button", name="Pause")).to_be_visible()

    set_paused(page, True)  # the run that is started stays queued
    card.get_by_role("button", name="Refresh").click()
    dialog.get_by_role("button", name="Refresh").click()
    expect(page.get_by_role("status").first).to_contain_text("Started: manual__")
    again = next(
        run for run in api.runs(DAG) if run["conf"]["tenant"] == tenant and run["state"] not in ("success", "failed")
    )
    assert again["conf"]["max_pages"] == 3
    card.get_by_role("button", name="Forget").click()
    go = dialog.get_by_role("button", name="Forget")
    expect(go).to_be_disabled()
    dialog.get_by_label("To confirm").fill(str(stack.website_url))
    go.click()
    expect(dialog.get_by_role("alert")).to_contain_text(again["dag_run_id"])  # stop it first
    api.fail_run(DAG, again["dag_run_id"])
    go.click()
    expect(dialog).to_be_hidden()
    set_paused(page, False)
    expect(page.get_by_role("status").first).to_contain_text("Forgotten, with ")
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        assert conn.execute("SELECT count(*) FROM gleaner.website_page WHERE tenant_id = %s", (tenant,)).fetchone() == (
            0,
        )

    page.get_by_role("link", name="Forgotten").click()
    main.get_by_role("button", name="Let it in again").click()
    dialog.get_by_role("button", name="Let it in").click()
    expect(main).to_contain_text("kept out")
    page.get_by_role("link", name="Tenants").click()
    card = main.locator(".card", has=page.get_by_role("link", name=tenant, exact=True))
    with page.expect_download() as download:
        card.get_by_role("link", name="Export").click()
    assert download.value.suggested_filename == f"gleaner-{tenant}.ndjson.gz"
    card.get_by_role("button", name="Erase").click()
    dialog.get_by_label("To confirm").fill(tenant)
    dialog.get_by_role("button", name="Erase").click()
    expect(page.get_by_role("status").first).to_contain_text(f"{tenant} is erased")
    expect(main.get_by_role("link", name=tenant, exact=True)).to_have_count(0)


def test_the_card_of_a_website_moves_by_itself_while_a_run_is_under_way(
    page: Page, stack: Stack, ids: dict[str, str]
) -> None:
    card = opened(page, address(stack, "websites", ids)).locator(".card")
    ended = "UPDATE gleaner.crawl_job SET finished_at = %s, state = %s WHERE job_id = %s"
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        row = conn.execute(
            "SELECT finished_at, state FROM gleaner.crawl_job WHERE job_id = %s", (ids["job"],)
        ).fetchone()
        assert row is not None
        conn.execute(ended, (None, "running", ids["job"]))
        try:
            page.reload()
            expect(card).to_contain_text("A run is under way")
        finally:
            conn.execute(ended, (*row, ids["job"]))
        expect(card).to_contain_text("Crawled")


def started_by_hand(stack: Stack) -> int:
    """Runs of maintenance that its schedule did not start."""
    return sum(run["run_type"] == "manual" for run in stack.airflow.api.runs("maintain_knowledge"))


def test_a_failure_is_replayed_and_a_page_forgotten(page: Page, stack: Stack, ids: dict[str, str]) -> None:
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, reason, attempts)"
            " SELECT tenant_id, 'load', page_id, 'GleanerError', 6 FROM gleaner.website_page"
            " WHERE tenant_id = %s AND (url LIKE '%%/warranty' OR url = %s)",
            (TENANT, f"{stack.website_url}about"),
        )
        main = opened(page, address(stack, "failures", ids))
        expect(page.locator(".tile", has_text="failures")).to_contain_text("2 given up")
        runs = started_by_hand(stack)
        main.get_by_role("button", name=re.compile("^Replay .*warranty")).click()
        page.get_by_role("dialog").get_by_role("button", name="Replay").click()
        expect(page.get_by_role("status").first).to_contain_text("1 failure will be tried again")
        tries = "SELECT attempts FROM gleaner.dead_letter WHERE tenant_id = %s AND stage = 'load' ORDER BY 1"
        assert conn.execute(tries, (TENANT,)).fetchall() == [(1,), (6,)]
        assert started_by_hand(stack) == runs + 1
        main.locator(".row", has_text="warranty").get_by_role("link", name="GleanerError").click()
        page.get_by_role("button", name="Forget this page").click()
        page.get_by_role("dialog").get_by_role("button", name="Forget").click()
        expect(page.get_by_role("status").first).to_contain_text("Forgotten.")
        query = "SELECT count(*) FROM gleaner.website_page WHERE tenant_id = %s AND url LIKE '%%/warranty'"
        assert conn.execute(query, (TENANT,)).fetchone() == (0,)
        conn.execute("DELETE FROM gleaner.dead_letter WHERE tenant_id = %s AND stage = 'load'", (TENANT,))
