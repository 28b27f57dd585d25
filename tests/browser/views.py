"""Addresses of the views, a view when it is there, and waiting for anything else."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import FrameLocator, Locator, Page, expect

from include.gleaner.local.stack import Stack

TENANT = "acme"
PATIENCE_MS = 30_000


def address(stack: Stack, view: str, ids: dict[str, str], tenant: str = TENANT) -> str:
    parameters = {"pages": "source", "page": "page", "run": "job"}.get(view)
    more = f"&{parameters}={ids[parameters]}" if parameters else ""
    more += "&query=battery" if view == "search" else ""
    return f"{stack.airflow.url}/gleaner/#{view}?tenant={tenant}{more}"


def opened(page: Page, url: str) -> Locator:
    """The view of the address, when it is there."""
    page.goto("about:blank")
    page.goto(url)
    main = page.locator("main")
    expect(main.locator("h2").first).to_be_visible()
    expect(main).not_to_have_attribute("aria-busy", "true")
    expect(page.locator(".tile")).to_have_count(4)
    return main


def frame(page: Page) -> FrameLocator:
    return page.frame_locator("iframe")


def wait_until(page: Page, holds: Callable[[], bool]) -> None:
    """`page.wait_for_function` would evaluate text in the page, which the page's own policy forbids."""
    deadline = time.monotonic() + PATIENCE_MS / 1_000
    while not holds():
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)
