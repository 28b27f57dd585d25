"""The commands. Each prints a table for people, or with --json one JSON document and nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from include.gleaner.cli import connect, db, show
from include.gleaner.errors import GleanerError, InvalidParamError, RequestError, SetupError
from include.gleaner.local.rest import AirflowApi

INGEST: Final = "ingest_website"
REBUILD: Final = "rebuild_knowledge"
REPORT_TASKS: Final = {INGEST: "reconcile", REBUILD: "report"}
POLL_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 120.0  # with an API server that does not answer while a run is waited for

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(db.app, name="db")
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]
Tenant = Annotated[str, typer.Option("--tenant", "-t", help="Whose knowledge.")]


@app.command()
def ingest(
    tenant: str,
    url: str,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="NAME=VALUE, as in the form.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the run is over; exit code 1 when it failed.")] = False,
    as_json: Json = False,
) -> None:
    """Crawl a website into a tenant's knowledge."""
    conf = {"tenant": tenant, "url": url, **_params(param or [])}
    api = connect.airflow()
    run_id = api.trigger(INGEST, conf)
    if wait:
        _wait(api, INGEST, run_id)
    _told(_status(api, INGEST, run_id), as_json)


@app.command()
def status(
    run_id: str,
    dag: Annotated[str, typer.Option(help="Of which DAG.")] = INGEST,
    as_json: Json = False,
) -> None:
    """How far a run is, and its report when it is over."""
    _told(_status(connect.airflow(), dag, run_id), as_json, fail_when_failed=False)


@app.command()
def search(
    query: str,
    tenant: Tenant,
    limit: Annotated[int, typer.Option("--limit", "-k", min=1, max=1_000)] = 5,
    as_json: Json = False,
) -> None:
    """The best chunks for a question, by meaning and by words."""
    from include.gleaner.local.searching import ask

    # Airflow, which knows the connection of the model, logs to the standard output: that is for the answer alone.
    with connect.knowledge() as conn, contextlib.redirect_stdout(sys.stderr):
        hits = ask(conn, tenant, query, limit)
    show.hits(hits, as_json=as_json)
    if not hits:
        raise typer.Exit(1)


@app.command()
def backfill(
    first: Annotated[str, typer.Argument(help="First day, 2026-03-01.")],
    last: Annotated[str, typer.Argument(help="Last day, inclusive.")],
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Whose pages; default: everybody's.")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="NAME=VALUE, as in the form.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also days that were rebuilt before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which days it would be.")] = False,
    as_json: Json = False,
) -> None:
    """Rebuild the pages that were fetched on some days from what is stored of them."""
    if tenant == "":  # as a variable of a shell that is not set
        raise InvalidParamError("tenant", "is empty; leave --tenant out to rebuild everybody's pages")
    body = {
        "dag_id": REBUILD,
        "from_date": f"{first}T00:00:00Z",
        "to_date": f"{last}T00:00:00Z",
        "dag_run_conf": {**({"tenant": tenant} if tenant is not None else {}), **_params(param or [])},
        "reprocess_behavior": "completed" if again else "none",
        "max_active_runs": 2,
    }
    answer = connect.airflow().backfill(body, dry_run=dry_run)
    show.backfill(answer, dry_run=dry_run, as_json=as_json)


@app.command()
def failures(tenant: Tenant, as_json: Json = False) -> None:
    """Pages and chunks that failed and are not mended, with their reasons."""
    from include.gleaner.sql import queries

    with connect.knowledge() as conn:
        rows = conn.execute(queries("failures")["list"], {"tenant_id": tenant}).fetchall()
    names = ("stage", "url", "item", "reason", "detail", "attempts", "first", "last")
    show.failures([dict(zip(names, row, strict=True)) for row in rows], as_json=as_json)


@app.command()
def replay(
    tenant: Tenant,
    stage: Annotated[str, typer.Option(help="process, load or embed; default: all of them.")] = "",
    as_json: Json = False,
) -> None:
    """Let maintain_knowledge try a tenant's failures again at once, those too that it had given up."""
    from include.gleaner.sql import queries

    if stage not in ("", "process", "load", "embed"):
        raise InvalidParamError("stage", "needs process, load or embed; a page that could not be fetched needs a crawl")
    api = connect.airflow()  # before anything is changed
    with connect.knowledge() as conn:
        count = conn.execute(queries("failures")["replay"], {"tenant_id": tenant, "stage": stage or None}).rowcount
    run_id = api.trigger("maintain_knowledge", {}) if count else None
    show.replay(count, run_id, as_json=as_json)


def _status(api: AirflowApi, dag_id: str, run_id: str) -> dict[str, Any]:
    run = api.dag_run(dag_id, run_id)
    tasks: dict[str, dict[str, int]] = {}
    for task in api.task_instances(dag_id, run_id):
        states = tasks.setdefault(task["task_id"], {})
        state = task["state"] or "none"
        states[state] = states.get(state, 0) + 1
    report = api.xcom(dag_id, run_id, REPORT_TASKS[dag_id]) if dag_id in REPORT_TASKS else None
    return {
        "dag": dag_id, "run_id": run_id, "state": run["state"], "conf": run["conf"], "started": run["start_date"],
        "ended": run["end_date"], "tasks": tasks, "report": report,
    }  # fmt: skip


def _wait(api: AirflowApi, dag_id: str, run_id: str) -> None:
    """Until the run is over. An API server that is started again meanwhile is waited for: the run needs none."""
    from requests import RequestException

    answered = time.monotonic()
    while True:
        try:
            if api.dag_run(dag_id, run_id)["state"] in ("success", "failed"):
                return
            answered = time.monotonic()
        except (RequestException, RequestError) as error:
            if time.monotonic() - answered > PATIENCE_SECONDS:
                said = str(error) if isinstance(error, RequestError) else type(error).__name__
                raise SetupError(f"nobody tells how far {run_id} is ({said}); ask later: status {run_id}") from None
        time.sleep(POLL_SECONDS)


def _told(found: Mapping[str, Any], as_json: bool, *, fail_when_failed: bool = True) -> None:
    show.status(found, as_json=as_json)
    if fail_when_failed and found["state"] == "failed":
        raise typer.Exit(1)


def _params(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE as Params: a value that is JSON is what it says, anything else is text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidParamError(pair, "needs the form NAME=VALUE")
        try:
            found[name] = json.loads(value, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            found[name] = value
    return found


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity, which no JSON that is sent may hold


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 failed or nothing found, 2 a bad option."""
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    if not _is_text("".join(sys.argv[1:] if arguments is None else arguments)):
        show.problem("an argument holds bytes that are no UTF-8")
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal of another encoding shows what it can
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        logging.disable(logging.INFO)
        app(args=arguments, prog_name="gleaner")
    except GleanerError as error:
        show.problem(str(error))
        return 1
    except (RequestException, HTTPError) as error:  # the latter of a host's name that is none
        show.problem(f"Airflow does not answer ({type(error).__name__}); look at GLEANER_AIRFLOW_URL")
        return 1
    except OSError as error:
        show.problem(f"{error.filename or 'a file'} cannot be used: {error.strerror or type(error).__name__}")
        return 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    return 0


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:  # what a shell sent stands there as half a surrogate pair
        return False
    return True
