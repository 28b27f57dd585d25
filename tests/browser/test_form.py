"""What a user of the web UI does: the form, the batches by name, a log, the report, the runbook."""

from __future__ import annotations

import time

from playwright.sync_api import Page, expect

from include.gleaner.local.stack import Stack
from tests.browser.conftest import DAG

TENANT = "clicked"


def triggered(page: Page, stack: Stack, dag_id: str = DAG) -> str:
    """Press the form's button; the id of the run that it started, once it is over and green."""
    api = stack.airflow.api
    before = {run["dag_run_id"] for run in api.runs(dag_id)}
    dialog = page.locator("[role=dialog][data-scope=dialog]")
    button = dialog.get_by_role("button", name="Trigger")
    expect(button).to_be_enabled()
    button.click()
    deadline = time.monotonic() + 180
    while not (new := [run for run in api.runs(dag_id) if run["dag_run_id"] not in before]):
        assert time.monotonic() < deadline
        page.wait_for_timeout(300)
    run_id = str(new[0]["dag_run_id"])
    while (state := api.dag_run(dag_id, run_id)["state"]) not in ("success", "failed"):
        assert time.monotonic() < deadline, state
        page.wait_for_timeout(500)
    assert state == "success"
    return run_id


def test_the_form_starts_a_run_whose_batches_log_and_report_are_seen(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.airflow.url}/dags/{DAG}")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.locator("[role=dialog][data-scope=dialog]")
    expect(dialog.get_by_role("button", name="Trigger")).to_be_disabled()  # nothing is said yet about whom and what
    dialog.get_by_text("What", exact=True).click()
    dialog.locator("#element_tenant").fill(TENANT)
    dialog.locator("#element_url").fill(str(stack.website_url))
    expect(dialog.get_by_text("Whose knowledge it becomes", exact=False)).to_be_visible()
    dialog.get_by_text("How", exact=True).click()
    dialog.locator("[name=element_delay_seconds]").fill("0")
    run_id = triggered(page, stack)

    conf = stack.airflow.api.dag_run(DAG, run_id)["conf"]
    assert (conf["tenant"], conf["url"], conf["delay_seconds"]) == (TENANT, stack.website_url, 0)
    page.goto(f"{stack.airflow.url}/dags/{DAG}/runs/{run_id}/tasks/process/mapped")
    expect(page.get_by_text("batch 1/", exact=False).first).to_be_visible()
    page.goto(f"{stack.airflow.url}/dags/{DAG}/runs/{run_id}/tasks/process/mapped/0")
    expect(page.get_by_text("pages/s", exact=False).first).to_be_visible()
    page.goto(f"{stack.airflow.url}/dags/{DAG}/runs/{run_id}/tasks/reconcile/xcom")
    expect(page.get_by_text("return_value", exact=True).first).to_be_visible()
    page.goto(f"{stack.airflow.url}/dags/{DAG}/runs/{run_id}/tasks/reconcile")
    expect(page.get_by_text("pages_not_chunked", exact=False).first).to_be_visible()


def test_a_tenant_that_cannot_be_one_is_refused_by_the_form(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.airflow.url}/dags/{DAG}")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.locator("[role=dialog][data-scope=dialog]")
    dialog.get_by_text("What", exact=True).click()
    dialog.locator("#element_url").fill(str(stack.website_url))
    dialog.locator("#element_tenant").fill("Not A Tenant")
    button = dialog.get_by_role("button", name="Trigger")
    before = len(stack.airflow.api.runs(DAG))
    if button.is_enabled():
        button.click()  # then the API refuses it
    page.wait_for_timeout(3_000)
    assert len(stack.airflow.api.runs(DAG)) == before


def test_the_runbook_is_on_the_page_of_each_dag(page: Page, stack: Stack) -> None:
    for dag_id in (DAG, "rebuild_knowledge", "maintain_knowledge", "refresh_websites"):
        page.goto(f"{stack.airflow.url}/dags/{dag_id}")
        page.get_by_role("button", name="Dag Docs").first.click()
        expect(page.get_by_text("Triage notes", exact=False).first).to_be_visible()


def test_the_form_offers_backfills_where_there_are_days(page: Page, stack: Stack) -> None:
    for dag_id, has_days in ((DAG, False), ("rebuild_knowledge", True)):
        page.goto(f"{stack.airflow.url}/dags/{dag_id}")
        page.get_by_role("button", name="Trigger").first.click()
        dialog = page.locator("[role=dialog][data-scope=dialog]")
        choice = dialog.locator("input[type=radio][value=backfill]")
        if not has_days:
            expect(choice).to_be_disabled()
            continue
        dialog.get_by_text("Backfill", exact=True).click()
        expect(choice).to_be_checked()
        expect(dialog.get_by_text("Date Range", exact=False).first).to_be_visible()


def test_a_backfill_of_three_days_is_started_from_the_form(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.airflow.url}/dags/rebuild_knowledge")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.locator("[role=dialog][data-scope=dialog]")
    dialog.get_by_text("Backfill", exact=True).click()
    for field, day in enumerate(("2026/03/01", "2026/03/03")):
        dialog.get_by_test_id("datetime-input").nth(field).click()
        calendar = page.locator("[data-scope=popover][data-part=content][data-state=open]")
        for placeholder, value in (("YYYY/MM/DD", day), ("HH:mm", "00:00")):
            calendar.get_by_placeholder(placeholder).fill(value)
            calendar.get_by_placeholder(placeholder).press("Enter")
        dialog.get_by_text("Date Range", exact=True).click()  # anywhere beside the calendar closes it
        expect(calendar).to_have_count(0)
    expect(dialog.get_by_test_id("datetime-input").nth(1)).to_contain_text("Mar 03, 2026 00:00")
    expect(dialog.get_by_text("3 runs will be triggered.", exact=False)).to_be_visible()
    dialog.get_by_role("button", name="Run Backfill").click()
    expect(dialog).to_have_count(0)
    runs = [run for run in stack.airflow.api.runs("rebuild_knowledge") if run["run_type"] == "backfill"]
    assert sorted(run["logical_date"][:10] for run in runs) == ["2026-03-01", "2026-03-02", "2026-03-03"]
