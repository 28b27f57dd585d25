"""One real stack for all acceptance tests: embedded Postgres, Airflow with scheduler and API server, a website each."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.gleaner.local.rest import AirflowApi
from include.gleaner.local.stack import Stack, running
from include.gleaner.report.run_report import read_report
from tests.support.debian_docs import fetch_docs
from tests.support.embedding_server import API_KEY, EmbeddingServer
from tests.support.static_site import StaticSite

DAG = "ingest_website"
DAGS = sorted(path.stem for path in (Path(__file__).parents[2] / "dags").glob("*.py"))
RUN_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class Run:
    """A DAG run that is over."""

    run_id: str
    state: str
    report: dict[str, Any] | None
    tasks: list[dict[str, Any]]


class Gleaner:
    """What a user does: trigger through the API, wait, look."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.api: AirflowApi = stack.airflow.api

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.stack.dsn, autocommit=True, prepare_threshold=None)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.connect() as conn:
            return conn.execute(query.encode(), values).fetchall()

    def ingest(self, conf: Mapping[str, Any]) -> Run:
        run_id = self.api.trigger(DAG, conf)
        deadline = time.monotonic() + RUN_SECONDS
        while (state := self.api.dag_run(DAG, run_id)["state"]) not in ("success", "failed"):
            self.stack.airflow.check()
            assert time.monotonic() < deadline, f"{run_id} is {state} after {RUN_SECONDS} s"
            time.sleep(0.3)
        with self.connect() as conn:
            report = read_report(conn, str(conf["tenant"]), run_id)
        return Run(run_id=run_id, state=state, report=report, tasks=self.api.task_instances(DAG, run_id))


@pytest.fixture(scope="session")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StaticSite]:
    """The Debian handbook in English and Persian, 254 pages, behind an index page."""
    folder = tmp_path_factory.mktemp("handbook")
    html = fetch_docs("debian-handbook", folder) / "usr/share/doc/debian-handbook/html"
    site = folder / "site"
    site.mkdir()
    for language in ("en-US", "fa-IR"):
        shutil.copytree(html / language, site / language)
    site.joinpath("index.html").write_text(
        "<!doctype html><html><head><title>Handbook</title></head><body><h1>The handbook</h1><p>In two languages: "
        '<a href="en-US/index.html">English</a> and <a href="fa-IR/index.html">Persian</a>.</p></body></html>',
        "utf-8",
    )
    with StaticSite(site) as server:
        yield server


@pytest.fixture(scope="session")
def endpoint() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as server:
        yield server


@pytest.fixture(scope="session")
def gleaner(handbook: StaticSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gleaner]:
    before = os.environ.get("GLEANER_LOCAL_HOSTS")
    os.environ["GLEANER_LOCAL_HOSTS"] = handbook.host
    try:
        with running(tmp_path_factory.mktemp("stack"), sample=True) as stack:
            user = Gleaner(stack)
            for dag_id in DAGS:  # they become known one after the other
                stack.airflow.wait(partial(user.api.has_dag, dag_id), f"the DAG {dag_id}")
            assert user.api.import_errors() == []
            user.api.unpause(DAG)
            yield user
    finally:
        if before is None:
            del os.environ["GLEANER_LOCAL_HOSTS"]
        else:
            os.environ["GLEANER_LOCAL_HOSTS"] = before


@pytest.fixture(scope="session")
def connection(gleaner: Gleaner, endpoint: EmbeddingServer) -> None:
    """From now on vectors come from the endpoint; until then from the local model."""
    gleaner.api.add_connection(
        "gleaner_openai",
        conn_type="generic",
        host=endpoint.url,
        password=API_KEY,
        extra={"model": "text-embedding-3-small", "dimensions": 1_536},
    )


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[2]
