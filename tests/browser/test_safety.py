"""The page "Knowledge" when somebody means harm, may not, or is not answered: nothing is done, and it is said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect

from include.gleaner.local.stack import Stack
from tests.browser.conftest import HOSTILE_TENANT
from tests.browser.views import TENANT, address, frame, opened, wait_until
from tests.support.trap_page import MARK

LIVE = "main img, main script, main iframe, main object, main style, [onerror], [onclick], [onload]"


def test_a_page_full_of_script_is_shown_and_does_nothing(page: Page, stack: Stack, ids: dict[str, str]) -> None:
    """Stored by the real pipeline; then every view that shows it is looked at, within Airflow and alone."""
    alarms: list[str] = []
    page.on("dialog", lambda dialog: (alarms.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: alarms.append(str(error)))
    page.on(
        "console", lambda line: alarms.append(line.text) if re.search("Content Security|Refused", line.text) else None
    )
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        rows = conn.execute(
            "SELECT page_id::text, source_id::text FROM gleaner.website_page"
            " WHERE tenant_id = %s AND state = 'chunked'",
            (HOSTILE_TENANT,),
        ).fetchall()
        job = conn.execute(
            "SELECT max(job_id)::text FROM gleaner.crawl_job WHERE tenant_id = %s", (HOSTILE_TENANT,)
        ).fetchone()
        payload = f'<img src=x onerror="{MARK}">'
        for page_id, _ in rows:  # what no pipeline of ours would write, but might
            conn.execute(
                "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, item, reason, detail)"
                " VALUES (%s, 'load', %s, %s, %s, %s)",
                (HOSTILE_TENANT, page_id, payload, payload, payload),
            )
        conn.execute(
            "UPDATE gleaner.crawl_job SET reason = %s,"
            " report = jsonb_build_object(%s::text, %s::text, 'list', jsonb_build_array(%s::text))"
            " WHERE tenant_id = %s",
            (payload, payload, payload, payload, HOSTILE_TENANT),
        )
        conn.execute(
            "UPDATE gleaner.website_page SET alias_of = 'javascript:' || %s WHERE tenant_id = %s",
            (MARK, HOSTILE_TENANT),
        )
    assert rows
    assert job is not None
    seen = ""
    for number, (page_id, source_id) in enumerate(rows):
        known = {"page": page_id, "source": source_id, "job": str(job[0])}
        others = ("websites", "pages", "failures", "search", "runs", "run", "tenants") if number == 0 else ()
        for view in ("page", *others):
            url = address(stack, view, known, HOSTILE_TENANT).replace("query=battery", "query=harmless")
            within = [url.replace("/gleaner/#", "/plugin/gleaner/gleaner/#")] if number == 0 else []
            for place in (url, *within):
                page.goto("about:blank")
                page.goto(place)
                inside = frame(page) if "/plugin/" in place else page
                expect(inside.locator("main h2").first).to_be_visible()
                expect(inside.locator("main")).not_to_have_attribute("aria-busy", "true")
                if view == "page":
                    inside.get_by_role("button", name="Show what the website sent").click()
                    expect(inside.locator("main pre")).to_have_attribute("aria-label", "What the website sent")
                    expect(inside.locator("main pre")).to_contain_text("<script>")
                seen += inside.locator("main").inner_text()
                frames = [one for one in page.frames if "/gleaner/" in one.url]
                assert frames
                for one in frames:
                    assert one.evaluate("window.pwned ?? window.top.pwned ?? null") is None
                    hrefs = one.evaluate("[...document.querySelectorAll('a')].map(a => a.protocol)")
                    assert set(hrefs) <= {"http:", "https:"}
                    found = one.evaluate(f"document.querySelectorAll('{LIVE}').length")
                    assert found == 0, view
    for told in ("<img src=x", "<script>", "onerror=", f"javascript:{MARK}"):  # it is shown, as the text that it is
        assert told in seen
    assert alarms == []
    assert not [url for url in asked if "elsewhere.example" in url or url.endswith("/x")]


@pytest.fixture
def something_to_change(stack: Stack, ids: dict[str, str]) -> Iterator[None]:
    """A failure of the page that is looked at, and an address that is kept out."""
    key = {"tenant": TENANT, **ids}
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, reason)"
            " VALUES (%(tenant)s, 'load', %(page)s, 'GleanerError')",
            key,
        )
        conn.execute(
            "INSERT INTO gleaner.forgotten (tenant_id, target_id, source_id, url)"
            " VALUES (%(tenant)s, gen_random_uuid(), %(source)s, 'https://example.com/gone')",
            key,
        )
        yield
        conn.execute("DELETE FROM gleaner.dead_letter WHERE tenant_id = %(tenant)s AND page_id = %(page)s", key)
        conn.execute("DELETE FROM gleaner.forgotten WHERE tenant_id = %(tenant)s", key)


def test_a_viewer_has_no_buttons_that_change(
    viewer: Page, stack: Stack, ids: dict[str, str], something_to_change: None
) -> None:
    for view in ("websites", "page", "failures", "forgotten", "tenants"):
        main = opened(viewer, address(stack, view, ids))
        expect(main.locator(".row, .card").first).to_be_visible()
        for name in ("Ingest", "Refresh", "Pause", "Forget", "Replay", "Erase", "Let it in"):
            assert main.get_by_role("button", name=re.compile(f"^{name}")).count() == 0, (view, name)
    answer: Any = viewer.evaluate(
        "tenant => fetch('api/erase', {method: 'POST', headers: {'X-Gleaner': '1', 'Content-Type': 'application/json'},"
        " body: JSON.stringify({tenant, confirm: tenant})}).then(answer => answer.status)",
        TENANT,
    )
    assert answer == 403


def test_another_website_cannot_frame_or_post(page: Page, stack: Stack, elsewhere: Page) -> None:
    """From another origin, with the user's cookie in the browser: no frame of ours is shown, no change is taken."""
    other = elsewhere
    log = stack.airflow.password_file.parent / "api-server.log"
    before = log.stat().st_size
    blocked: list[str] = []
    other.on("console", lambda line: blocked.append(line.text))
    other.evaluate(
        """async (base) => {
            const frame = document.createElement('iframe');
            frame.src = base + '/gleaner/';
            document.body.append(frame);
            const url = base + '/gleaner/api/erase';
            const post = {method: 'POST', credentials: 'include', body: '{"tenant": "x", "confirm": "x"}'};
            const json = {'Content-Type': 'application/json'};
            for (const headers of [{}, {'Content-Type': 'text/plain'}, json, {...json, 'X-Gleaner': '1'}]) {
                await fetch(url, {...post, headers}).catch(() => 0);
            }
            await fetch(url, {...post, mode: 'no-cors'}).catch(() => 0);
        }""",
        stack.airflow.url,
    )

    def answers() -> list[tuple[str, str]]:
        told = log.read_bytes()[before:].decode("utf-8", "replace")
        return re.findall(r"method=(\w+) path=/gleaner/api/erase .*?status_code=(\d+)\b", told)

    wait_until(other, lambda: len(answers()) >= 5)  # the log is written when the browser has its answer already
    found = answers()
    assert {status for method, status in found if method == "POST"} == {"403"}, found  # they came, with the cookie
    assert {status for method, status in found if method == "OPTIONS"} == {"401"}, found  # so that none was sent
    words = ("frame-ancestors", "Refused to frame", "Framing")
    wait_until(other, lambda: any(word in line for word in words for line in blocked))


def test_a_part_that_does_not_come_is_told(page: Page, stack: Stack) -> None:
    page.route("**/static/charts.js", lambda route: route.abort())
    page.goto(f"{stack.airflow.url}/gleaner/")
    main = page.locator("main")
    expect(main.get_by_role("alert")).to_contain_text("could not be loaded")
    page.unroute("**/static/charts.js")
    main.get_by_role("button", name="Load it again").click()
    expect(main.get_by_role("heading", name="Websites", exact=True)).to_be_visible()


@pytest.mark.parametrize("part", ["**/static/charts.js", "**/api/me", "**/api/sources*"])
def test_it_is_never_empty_and_says_so_when_an_answer_is_late(page: Page, stack: Stack, part: str) -> None:
    """A module or an answer that never comes; time is the page's own, so that nobody waits for it."""
    page.clock.install()
    held: list[Any] = []
    let_through: list[bool] = []
    page.route(part, lambda route: route.continue_() if let_through else held.append(route))
    page.goto(f"{stack.airflow.url}/gleaner/", wait_until="commit")
    main = page.locator("main")
    expect(main).to_contain_text("Loading")
    wait_until(page, lambda: bool(held))
    expect(page.locator(".late")).to_have_count(0)  # the first script is at work, and has set its clock
    expect(main).to_contain_text("Loading")
    page.clock.fast_forward(25_000)
    expect(main.get_by_role("alert")).to_contain_text("does not come" if "static" in part else "within 20 seconds")
    let_through.append(True)  # unroute would let those through that are held, and nothing would be left to click
    main.get_by_role("button", name="Load it again" if "static" in part else "Try again").click()
    expect(main.get_by_role("heading", name="Websites", exact=True)).to_be_visible()


def test_it_is_painted_while_its_styles_are_waited_for(page: Page, stack: Stack) -> None:
    """A stylesheet in the head would keep all of it blank until it comes."""
    held: list[Any] = []
    page.route("**/static/style.css", lambda route: held.append(route))
    page.goto(f"{stack.airflow.url}/gleaner/", wait_until="commit")
    wait_until(page, lambda: page.evaluate("performance.getEntriesByName('first-contentful-paint').length > 0"))
    expect(page.locator("main")).to_contain_text("Loading")
    expect(page.locator(".late").get_by_role("link")).to_be_visible()  # scripts wait for styles too
    assert held
    page.unroute("**/static/style.css")


def test_when_not_even_the_first_script_comes_there_is_a_link_to_try_again(page: Page, stack: Stack) -> None:
    page.route("**/static/boot.js", lambda route: route.abort())
    page.goto(f"{stack.airflow.url}/gleaner/")
    late = page.locator(".late")
    expect(late).to_be_hidden()  # for ten seconds, which nobody waits for here
    late.evaluate("hint => hint.getAnimations().forEach((one) => one.finish())")
    expect(late).to_be_visible()
    page.unroute("**/static/boot.js")
    late.get_by_role("link").click()
    expect(page.locator("main").get_by_role("heading", name="Websites", exact=True)).to_be_visible()
    expect(late).to_have_count(0)


def test_a_session_that_is_over_is_told_in_words(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.airflow.url}/gleaner/")
    expect(page.locator("main").get_by_role("heading", name="Websites", exact=True)).to_be_visible()
    page.context.clear_cookies()
    answer = page.reload()
    assert answer is not None
    assert answer.status == 401
    expect(page.get_by_role("heading", name="Your session is over")).to_be_visible()


def test_names_to_choose_from_that_fail_cost_nothing_else(page: Page, stack: Stack) -> None:
    page.route("**/api/tenants*", lambda route: route.abort())
    page.goto(f"{stack.airflow.url}/gleaner/")
    expect(page.locator("main").get_by_role("heading", name="Websites", exact=True)).to_be_visible()
