"""The app behind the page: who is let in, what a change must bring, which headers every answer has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from include.gleaner.api.app import create_app
from include.gleaner.api.guard import HEADER, HEADERS
from include.gleaner.api.pages import STATIC
from tests.support.page_app import ADMIN, VIEWER, airflow_users

CHANGE = {HEADER: "1", "Content-Type": "application/json"}


@pytest.fixture
def client() -> Iterator[TestClient]:
    with airflow_users():
        yield TestClient(create_app(), base_url="http://airflow.example")


def addresses(client: TestClient) -> list[tuple[str, str]]:
    """Every method and path that the app knows, placeholders filled, and some that it does not know."""
    found = [
        (method, path)
        for route in client.app.routes  # type: ignore[attr-defined]
        for method in sorted(getattr(route, "methods", None) or {"GET"})
        for path in [route.path.replace("{name}", "page.js").replace("{path:path}", "no/such/page")]
    ]
    assert len(found) > 10
    return [
        *found,
        ("GET", "/docs"),
        ("GET", "/redoc"),
        ("GET", "/static/"),
        ("PUT", "/"),
        ("GET", "/static/..%2fapp.py"),
    ]


def test_whoever_is_not_logged_in_is_told_so_whatever_they_ask_for(client: TestClient) -> None:
    for method, path in addresses(client):
        for headers in ({}, CHANGE, {"Authorization": "Basic YTpi"}):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path, headers, answer.status_code)
            assert set(HEADERS.items()) <= set({name: answer.headers.get(name) for name in HEADERS}.items())


def test_a_browser_without_a_login_is_told_in_words_and_a_program_in_json(client: TestClient) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path in ("/", "/?dag=ingest_website", "/no/such/page"):
        answer = client.get(path, headers=browser)
        assert (answer.status_code, answer.headers["Content-Type"]) == (401, "text/html; charset=utf-8")
        assert "Your session is over" in answer.text
        assert set(HEADERS.items()) <= set({name: answer.headers.get(name) for name in HEADERS}.items())
    for headers in ({}, {"Accept": "application/json"}, {"Accept": "*/*"}):
        assert client.get("/api/me", headers=headers).json().keys() == {"detail"}
    client.cookies.set("_token", VIEWER)
    assert client.get("/no/such/page", headers=browser).json().keys() == {"detail"}  # a 404 stays one


def test_every_route_is_one_of_ours(client: TestClient) -> None:
    """A mounted app, or a route of Starlette's own, would not ask for the login."""
    assert all(isinstance(route, APIRoute) for route in client.app.routes)  # type: ignore[attr-defined]


def test_the_policy_lets_in_the_page_s_own_files_and_nothing_else() -> None:
    directives = dict(part.strip().split(" ", 1) for part in HEADERS["Content-Security-Policy"].split(";"))
    own = {name: sources for name, sources in directives.items() if sources == "'self'"}
    assert set(own) == {"script-src", "style-src", "img-src", "connect-src", "frame-ancestors"}
    closed = {name for name, sources in directives.items() if sources == "'none'"}
    assert closed == {"default-src", "base-uri", "form-action"}
    assert set(directives) == set(own) | closed
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
    assert HEADERS["Cache-Control"] == "no-store"


def test_the_page_asks_for_all_of_its_modules_at_once() -> None:
    """Not one after the other as each names the next, which takes several times as long on a busy machine."""
    told = set(re.findall(r'href="static/(\w+\.js)"', STATIC["index.html"].decode()))
    assert told == {name for name in STATIC if name.endswith(".js")} - {"boot.js"}


@pytest.mark.parametrize("path", ["/", "/static/index.html", "/openapi.json"])
def test_the_cookie_and_the_bearer_token_both_let_in(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"Authorization": f"Bearer {VIEWER}"}).status_code == 200
    client.cookies.set("_token", VIEWER)
    assert client.get(path).status_code == 200


def test_what_does_not_exist_is_not_found(client: TestClient) -> None:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    for path in ("/static/app.py", "/static/..%2f..%2fapp.py", "/static/", "/docs", "/nothing"):
        assert client.get(path, headers=headers).status_code == 404
    assert client.delete("/", headers={**headers, **CHANGE}).status_code == 404


@pytest.mark.parametrize(
    ("base_url", "headers", "status"),
    [
        ("https://public.example/airflow", {"Origin": "https://public.example"}, 404),  # it got past all of it
        ("https://public.example:443", {"Origin": "https://public.example"}, 404),
        ("http://Public.example:8080/", {"Origin": "http://public.example:8080"}, 404),
        ("https://public.example", {"Origin": "http://airflow.example"}, 404),  # asked past the proxy
        ("https://public.example", {"Origin": "http://public.example"}, 403),
        ("https://public.example", {"Origin": "https://public.example:8443"}, 403),
        ("https://public.example", {"Origin": "https://public.example.elsewhere.example"}, 403),
        ("https://public.example", {"Origin": "https://public.example:x"}, 403),
        ("https://public.example", {"Origin": "https://[::1"}, 403),
        ("https://public.example", {"Origin": "null"}, 403),
        (
            "https://public.example",
            {"Origin": "https://elsewhere.example", "X-Forwarded-Host": "elsewhere.example"},
            403,
        ),
        ("/", {"Origin": "null"}, 403),
        ("", {"Origin": "https://public.example"}, 403),
    ],
)
def test_behind_a_proxy_that_changes_the_host_it_is_airflow_s_base_url_that_counts(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, base_url: str, headers: dict[str, str], status: int
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    client.cookies.set("_token", ADMIN)
    answer = client.post("/nothing", headers={**CHANGE, **headers}, content="{}")
    assert answer.status_code == status, answer.text
    assert status == 404 or "base_url" in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({HEADER: ""}, 403),
        ({HEADER: "0"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "http://airflow.example.elsewhere.example"}, 403),
        ({"Origin": "http://airflow.example:8081"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://airflow.example", "Sec-Fetch-Site": "same-origin"}, 404),  # it got past all of it
        ({}, 404),
    ],
)
def test_a_change_must_prove_that_no_other_website_asks(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    client.cookies.set("_token", ADMIN)
    sent: dict[str, Any] = {name: value for name, value in {**CHANGE, **headers}.items() if value != ""}
    assert client.post("/nothing", headers=sent, content="{}").status_code == status
