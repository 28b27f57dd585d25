"""Addresses of the views, and a view when it is there."""

from __future__ import annotations

from playwright.sync_api import FrameLocator, Locator, Page, expect

from include.gleaner.local.stack import Stack

TENANT = "acme"


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
