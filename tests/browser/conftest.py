"""A stack and Chromium; `make test-browser` installs the browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from include.gleaner.local.airflow import ADMIN
from include.gleaner.local.stack import Stack, running

DAG = "ingest_website"
PATIENCE_MS = 30_000


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack"), sample=True) as found:
        api = found.airflow.api
        for dag_id in (DAG, "rebuild_knowledge"):
            found.airflow.wait(partial(api.has_dag, dag_id), "the DAGs")
            api.unpause(dag_id)
        yield found


@pytest.fixture
def page(stack: Stack, tmp_path: Path) -> Iterator[Page]:
    """A page of Airflow, logged in as the admin; what it looked like at the end is in the test's folder."""
    browser_path = shutil.which("chromium")
    assert browser_path is not None, "there is no chromium; `make test-browser` installs it"
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=flags)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(stack.airflow.url)
        page.get_by_label("Username").fill(ADMIN)
        page.locator("input[type=password]").fill(stack.airflow.password)
        page.keyboard.press("Enter")
        page.get_by_text("Dags", exact=True).first.wait_for()
        yield page
        page.screenshot(path=tmp_path / "end.png")
        browser.close()
