"""What tests ask of the page's API, and of which website."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.gleaner.models import page_id_of, source_id_of
from tests.support.page_app import ADMIN
from tests.support.tenant import Tenant
from tests.support.website import Reply, page

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

NAMES = ("apples", "pears")


def opened() -> TestClient:
    """The app, asked by the admin."""
    from fastapi.testclient import TestClient

    from include.gleaner.api.app import create_app  # brings all of Airflow's API
    from include.gleaner.api.guard import HEADER

    headers = {"Authorization": f"Bearer {ADMIN}", HEADER: "1", "Content-Type": "application/json"}
    return TestClient(create_app(), headers=headers)


def five_pages(tenant: Tenant) -> None:
    """A run over a website of five pages, one of which is broken and one missing."""
    tenant.site.routes = {"/": page("Welcome to the orchard.", "/apples", "/pears", "/broken", "/missing")} | {
        f"/{name}": page(f"The article about {name} tells of {name} and of nothing else.") for name in NAMES
    }
    tenant.site.routes["/broken"] = Reply(status=500)
    tenant.run(max_failed_share=1.0)


def ids(tenant: Tenant, path: str = "/") -> tuple[str, str]:
    source = source_id_of(tenant.name, tenant.site.url)
    return str(source), str(page_id_of(tenant.name, source, tenant.site.url.rstrip("/") + path))


def get(client: TestClient, path: str, **parameters: object) -> dict:
    answer = client.get(f"/api/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()
