"""`make run`: one website through the real DAG, watched, reported, and everything ended again. `make up`: kept up."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import psycopg
import requests

from include.gleaner.config import IngestRequest
from include.gleaner.errors import SetupError
from include.gleaner.local import interrupts
from include.gleaner.local.airflow import ADMIN, KNOWLEDGE_DATABASE
from include.gleaner.local.console import excerpt, follow, say, step, table
from include.gleaner.local.rest import AirflowApi
from include.gleaner.local.searching import embedding_here
from include.gleaner.local.stack import Stack, running
from include.gleaner.report.progress import read_progress
from include.gleaner.report.run_report import gap_of, lines, read_report
from include.gleaner.sql import queries

DAG: Final = "ingest_website"
KEPT_UP: Final = (DAG, "maintain_knowledge", "refresh_websites")  # what goes on by itself while the stack is up
POLL_SECONDS: Final = 0.3
SAMPLE_TENANT: Final = "sample"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What `make run` was asked for. Without a URL it is the sample website."""

    folder: Path
    url: str | None = None
    tenant: str | None = None
    max_pages: int | None = None
    port: int | None = None


def run(options: RunOptions) -> int:
    """Ingest the website; 0 when the run succeeded and the gap is 0.

    Raises SetupError and RequestError with what to do.
    """
    began = time.monotonic()
    # Checked now, and not after half a minute of starting.
    IngestRequest.from_params(_conf(options, options.tenant or SAMPLE_TENANT, options.url or "http://127.0.0.1/"))
    with running(options.folder, sample=options.url is None, port=options.port) as stack:
        _say_login(stack)
        tenant, url = options.tenant or SAMPLE_TENANT, options.url or stack.website_url or ""
        run_id = _trigger(stack, _conf(options, tenant, url))
        say(f"  triggered {DAG} for tenant {tenant}, {url} ({time.monotonic() - began:.1f} s after the start)")
        state = _watch(stack, tenant, url, run_id)
        with psycopg.connect(stack.dsn, autocommit=True, prepare_threshold=None) as conn:
            report = read_report(conn, tenant, run_id)
            if report is not None:
                table("Report", list(lines(report)))
                _show_searches(conn, tenant, _questions(conn, tenant, is_sample=options.url is None))
        if state != "success":
            _show_failures(stack.airflow.api, run_id)
        elif stack.reused:
            say("The data of the last run was reused; `make clean` removes it.")
        else:
            say(f"The data stays in {options.folder.name}/ for the next run; `make clean` removes it.")
    gap = gap_of(report) if report is not None else 0
    missing = f", but {gap} pages or chunks are missing from the search" if state == "success" and gap else ""
    say(f"Done in {time.monotonic() - began:.1f} s: {state}{missing}.")
    return 0 if state == "success" and report is not None and not gap else 1


def up(folder: Path, port: int | None) -> None:
    """Keep the stack up until it is interrupted, with the sample website beside it."""
    with running(folder, sample=True, port=port, triggerer=True) as stack:
        api = stack.airflow.api
        for dag_id in KEPT_UP:
            stack.airflow.wait(partial(_has_dag, api, dag_id), "the DAGs")
            api.unpause(dag_id)
        _say_login(stack)
        say(f"Sample website, ready to be ingested: {stack.website_url}")
        say(f"Knowledge database: {KNOWLEDGE_DATABASE} on 127.0.0.1:{stack.postgres.port}, user gleaner, "
            f"password in {folder.name}/postgres/password")  # fmt: skip
        say("The knowledge is looked over every hour, and websites that are due are ingested again every day.")
        say("Ctrl-C ends all of it.")
        while True:
            stack.airflow.check()
            time.sleep(1)


def _say_login(stack: Stack) -> None:
    """Where the UI is. The password is printed once, in the run that made it."""
    login = "printed at the first start, kept in" if stack.reused else f"{stack.airflow.password}, kept in"
    say(f"  Airflow: {stack.airflow.url}  user {ADMIN}, password {login} {_relative(stack.airflow.password_file)}")


def _conf(options: RunOptions, tenant: str, url: str) -> dict[str, Any]:
    conf: dict[str, Any] = {"tenant": tenant, "url": url}
    if options.max_pages is not None:
        conf["max_pages"] = options.max_pages
    if options.url is None:
        conf["delay_seconds"] = 0  # our own server, on this machine
    return conf


def _trigger(stack: Stack, conf: dict[str, Any]) -> str:
    api = stack.airflow.api
    with step("Airflow: reading the DAG"):
        stack.airflow.wait(lambda: _has_dag(api), "the DAG")
    for run_id in api.active_runs(DAG):
        api.fail_run(DAG, run_id)
        say(f"  ended {run_id}, which had been interrupted")
    api.unpause(DAG)
    return api.trigger(DAG, conf)


def _has_dag(api: AirflowApi, dag_id: str = DAG) -> bool:
    if errors := api.import_errors():
        raise SetupError(f"a DAG file cannot be imported: {errors[0]}")
    return api.has_dag(dag_id)


def _watch(stack: Stack, tenant: str, url: str, run_id: str) -> str:
    """Follow the run to its end; its state."""
    api = stack.airflow.api
    with psycopg.connect(stack.dsn, autocommit=True, prepare_threshold=None) as conn, follow(url) as follower:
        while True:
            interrupts.check()
            stack.airflow.check()
            follower.show(read_progress(conn, tenant, run_id))
            try:
                state = str(api.dag_run(DAG, run_id)["state"])
            except (requests.ConnectionError, requests.Timeout):
                continue  # a busy server; if it is gone, the check above says so
            if state in ("success", "failed"):
                return state
            time.sleep(POLL_SECONDS)


def _show_failures(api: AirflowApi, run_id: str) -> None:
    failed = [task for task in api.task_instances(DAG, run_id) if task["state"] == "failed"]
    for task in failed:
        name = task.get("rendered_map_index") or task["map_index"]
        where = "" if task["map_index"] < 0 else f" [{name}]"
        say(f"failed: {task['task_id']}{where}, try {task['try_number']}; its log is in the UI (`make up`)")


def _questions(conn: psycopg.Connection, tenant: str, *, is_sample: bool) -> list[str]:
    """Three questions: those of the sample website, or for another site the headings of three of its sections."""
    if is_sample:
        text = files("include.gleaner.local").joinpath("site/questions.json").read_text("utf-8")
        return [str(item["question"]) for item in json.loads(text) if item.get("sample")]
    rows = conn.execute(queries("report")["some_headings"], {"tenant_id": tenant}).fetchall()
    return [str(heading) for (heading,) in rows]


def _show_searches(conn: psycopg.Connection, tenant: str, questions: Sequence[str]) -> None:
    from include.gleaner.embed import open_embedder
    from include.gleaner.search import search

    embedder = open_embedder(*embedding_here())
    for question in questions:
        hits = search(
            conn,
            tenant_id=tenant,
            query=question,
            vector=embedder.embed_query(question),
            model=embedder.model,
            limit=1,
        )
        if not hits:
            say(f"Search: {question}\n  nothing found")
            continue
        say(f"Search: {question}\n  {hits[0].section_title}\n  {excerpt(hits[0].full_text)}\n  {hits[0].page_url}")


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
