"""One stack and one Chromium for all; `make test-browser` installs the browser."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from include.gleaner.local.airflow import ADMIN, VIEWER
from include.gleaner.local.stack import Stack, running
from tests.browser.views import PATIENCE_MS, TENANT
from tests.support.trap_page import trap_routes
from tests.support.website import TestWebsite

DAG = "ingest_website"
DAGS = (DAG, "rebuild_knowledge", "maintain_knowledge")
HOSTILE_TENANT = "hostile"

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def traps() -> Iterator[TestWebsite]:
    """A website full of script; it is another origin than Airflow, on the same host."""
    with TestWebsite(trap_routes()) as site:
        yield site


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, traps: TestWebsite) -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLEANER_LOCAL_HOSTS", traps.host)
        with running(tmp_path_factory.mktemp("stack"), sample=True) as found:
            api = found.airflow.api
            for dag_id in DAGS:
                found.airflow.wait(partial(api.has_dag, dag_id), "the DAGs")
                api.unpause(dag_id)
            yield found


@pytest.fixture(scope="session")
def stored(stack: Stack, traps: TestWebsite) -> None:
    """The sample website as one tenant's, the hostile one as another's; one after the other."""
    api = stack.airflow.api
    for tenant, url in ((TENANT, stack.website_url), (HOSTILE_TENANT, traps.url)):
        run_id = api.trigger(DAG, {"tenant": tenant, "url": url, "delay_seconds": 0})
        deadline = time.monotonic() + 180
        while (state := api.dag_run(DAG, run_id)["state"]) not in ("success", "failed"):
            assert time.monotonic() < deadline, state
            time.sleep(0.3)
        assert state == "success"


@pytest.fixture(scope="module")
def ids(stack: Stack, stored: None) -> dict[str, str]:
    """What the addresses of the views name."""
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        row = conn.execute(
            "SELECT p.source_id::text, p.page_id::text, j.job_id::text FROM gleaner.website_page p"
            " JOIN gleaner.crawl_job j USING (tenant_id, source_id)"
            " WHERE p.tenant_id = %s AND p.url LIKE '%%/fa/%%' AND p.state = 'chunked' ORDER BY p.url LIMIT 1",
            (TENANT,),
        ).fetchone()
    assert row is not None
    return dict(zip(("source", "page", "job"), row, strict=True))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path is not None, "there is no chromium; `make test-browser` installs it"
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=flags)
        yield found
        found.close()


def logged_in(browser: Browser, stack: Stack, user: str) -> Any:
    """The cookies of a login by Airflow's own form."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(stack.airflow.url)
    page.get_by_label("Username").fill(user)
    page.locator("input[type=password]").fill(stack.airflow.password_of(user))
    page.keyboard.press("Enter")
    page.get_by_text("Dags", exact=True).first.wait_for()
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture(scope="session")
def admin_state(browser: Browser, stack: Stack) -> Any:
    return logged_in(browser, stack, ADMIN)


@pytest.fixture(scope="session")
def viewer_state(browser: Browser, stack: Stack) -> Any:
    return logged_in(browser, stack, VIEWER)


def opened_with(browser: Browser, state: Any) -> tuple[BrowserContext, Page]:
    context = browser.new_context(storage_state=state, viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(PATIENCE_MS)
    return context, context.new_page()


@pytest.fixture
def page(browser: Browser, stack: Stack, admin_state: Any, tmp_path: Path) -> Iterator[Page]:
    """A page of Airflow, logged in as the admin; what it looked like at the end is in the test's folder."""
    context, page = opened_with(browser, admin_state)
    page.goto(stack.airflow.url)
    page.get_by_text("Dags", exact=True).first.wait_for()
    yield page
    page.screenshot(path=tmp_path / "end.png")
    context.close()


@pytest.fixture
def viewer(browser: Browser, viewer_state: Any) -> Iterator[Page]:
    """A page, logged in as somebody who may look at everything and change nothing."""
    context, page = opened_with(browser, viewer_state)
    yield page
    context.close()


@pytest.fixture
def elsewhere(browser: Browser, admin_state: Any, traps: TestWebsite) -> Iterator[Page]:
    """A page of another website in the browser of the admin: it may send the cookie along, and nothing else."""
    traps.routes["/elsewhere"] = "<!doctype html><title>Elsewhere</title>"
    context, page = opened_with(browser, admin_state)
    page.goto(traps.url + "elsewhere")
    yield page
    context.close()
