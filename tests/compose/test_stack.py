"""The stack of docker-compose.yaml, as a person would use it: refused, started, used, hit, taken down and up again.

One installation goes through all of it, in the order of this file. What it knows is compared by the hashes of its rows.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import psycopg
import pytest
import requests

from include.gleaner.errors import RequestError, SetupError
from include.gleaner.local.website import SampleWebsite
from include.gleaner.ops.migrations import migrations
from tests.support.compose import Compose, new_secrets
from tests.support.installation import AIRFLOW, DAG, SITE, Installation
from tests.support.runbook import lines_of

ROWS = (
    "SELECT p.url, k.chunk_type, k.chunk_index, md5(row(k.section_title, k.full_text, k.tldr, k.language,"
    " k.token_count, k.content_hash, k.embedding_model, k.embedding::text)::text)"
    " FROM gleaner.tenant_knowledge k"
    " JOIN gleaner.website_page p ON p.tenant_id = k.tenant_id AND p.page_id = k.source_id"
    " WHERE k.tenant_id = %s ORDER BY 1, 2, 3"
)
EVERYTHING = (
    "SELECT 'knowledge', md5(string_agg(k::text, '|' ORDER BY k::text)) FROM gleaner.tenant_knowledge k UNION ALL "
    "SELECT 'page', md5(string_agg(p::text, '|' ORDER BY p::text)) FROM gleaner.website_page p UNION ALL "
    "SELECT 'snapshot', md5(string_agg(s::text, '|' ORDER BY s::text)) FROM gleaner.page_snapshot s UNION ALL "
    "SELECT 'job', md5(string_agg(j::text, '|' ORDER BY j::text)) FROM gleaner.crawl_job j ORDER BY 1"
)


@pytest.fixture(scope="module")
def site() -> SampleWebsite:
    return SampleWebsite()


def test_nothing_starts_on_default_secrets(compose: Compose) -> None:
    good = {f"GLEANER_{name.upper()}": value for name, value in new_secrets().items()}
    before = dict(compose.settings)
    compose.settings |= {**good, "GLEANER_REDIS_PASSWORD": "change-me"}
    done = compose.run("up", "--detach", "postgres", "redis", check=False)
    compose.settings = before
    assert done.returncode != 0
    assert compose.logs("preflight").splitlines() == [
        "gleaner: GLEANER_REDIS_PASSWORD is a default that everybody knows; nothing is started. "
        "deploy/compose/make-secrets.sh writes good secrets into .env"
    ]
    for service in ("postgres", "redis"):
        assert not any(item["State"]["StartedAt"] > "0002" for item in compose.containers(service))
    # Nor does a service by itself.
    alone = compose.run("run", "--rm", "--no-deps", "-e", "GLEANER_POSTGRES_PASSWORD=postgres", "postgres", check=False)
    assert alone.returncode == 1
    assert "GLEANER_POSTGRES_PASSWORD is a default" in alone.stdout + alone.stderr
    compose.run("down", "--volumes")


def test_the_init_step_made_everything(stack: Installation) -> None:
    assert stack.compose.one("airflow-init")["State"]["ExitCode"] == 0
    pools = {pool["name"]: pool["slots"] for pool in stack.api._json("GET", "/pools")["pools"]}
    assert pools["gleaner_crawl"] == 8
    assert {"gleaner_process", "gleaner_load"} <= set(pools)
    connections = {item["connection_id"] for item in stack.api._json("GET", "/connections")["connections"]}
    assert {"gleaner_postgres", "gleaner_redis"} <= connections
    assert stack.api.import_errors() == []
    with stack.compose.knowledge(stack.secrets["knowledge_db_password"]) as conn:
        row = conn.execute("SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user").fetchone()
        assert row == (False, False)
        with pytest.raises(psycopg.OperationalError):  # the knowledge's role cannot reach Airflow's database
            psycopg.connect(host=conn.info.host, user="gleaner", dbname="airflow", password=conn.info.password)


def test_every_container_is_bound(stack: Installation) -> None:
    for service in ("postgres", "redis", "worker", "tidy", "sample-site", *AIRFLOW):
        for container in stack.compose.containers(service):
            host = container["HostConfig"]
            assert host["ReadonlyRootfs"] is True, service
            assert host["CapDrop"] == ["ALL"], service
            assert "no-new-privileges:true" in host["SecurityOpt"], service
            assert host["Memory"] > 0, service
            assert host["PidsLimit"] > 0, service
            assert host["RestartPolicy"]["Name"] == "unless-stopped", service
        assert stack.compose.exec(service, "id", "-u").stdout.strip() not in ("", "0"), service
    for path in ("/opt/airflow/dags/x", "/opt/airflow/include/x", "/opt/airflow/plugins/x", "/opt/gleaner/cache/x"):
        assert stack.compose.exec("worker", "touch", path).returncode != 0, path
    assert list(stack.compose.one("postgres")["NetworkSettings"]["Networks"]) == [f"{stack.compose.project}_data"]
    assert not stack.compose.one("postgres")["HostConfig"]["PortBindings"]
    ports = stack.compose.one("airflow-apiserver")["NetworkSettings"]["Ports"]["8080/tcp"]
    assert {port["HostIp"] for port in ports} == {"127.0.0.1"}


def test_who_may_do_what_is_told_by_fab(stack: Installation) -> None:
    assert requests.get(f"{stack.url}/api/v2/dags", timeout=30).status_code == 401
    with pytest.raises(SetupError):
        stack.api_as("admin", "not the password").has_dag(DAG)
    token = requests.post(
        f"{stack.url}/auth/token", json={"username": "admin", "password": stack.secrets["admin_password"]}, timeout=30
    ).json()["access_token"]
    viewer = {
        "username": "looker", "password": "looks-but-changes-nothing", "first_name": "A", "last_name": "Viewer",
        "email": "viewer@example.org", "roles": [{"name": "Viewer"}],
    }  # fmt: skip
    made = requests.post(
        f"{stack.url}/auth/fab/v1/users", json=viewer, headers={"Authorization": f"Bearer {token}"}, timeout=30
    )
    assert made.status_code in (200, 201), made.text
    api = stack.api_as("looker", viewer["password"])
    assert api.has_dag(DAG)
    with pytest.raises(RequestError, match="403"):
        api.trigger(DAG, {"tenant": "intruder", "url": SITE})


def test_the_sample_website_comes_in(stack: Installation, site: SampleWebsite) -> None:
    run_id = stack.trigger("calm")
    stack.wait(run_id)
    stack.calm = stack.rows(ROWS, "calm")
    assert len({row[0] for row in stack.calm}) >= 20
    assert {row[0] for row in stack.calm} <= {SITE.rstrip("/") + path for path in site.pages}
    without = "SELECT count(*) FROM gleaner.tenant_knowledge WHERE tenant_id = 'calm' AND embedding IS NULL"
    assert stack.rows(without) == [(0,)]
    report = stack.api.xcom(DAG, run_id, "reconcile")
    assert set(report["gap"].values()) == {0}
    assert stack.api.log(DAG, run_id, "crawl")  # by the API server, from the workers' volume


def test_a_worker_is_killed_and_nothing_is_missing(stack: Installation) -> None:
    workers = {item["Config"]["Hostname"]: item for item in stack.compose.containers("worker")}
    run_id = stack.trigger("killed", batch_size=3)
    container = workers[stack.working(run_id, "load")["hostname"]]  # killed at once: a batch takes some seconds
    stack.compose.crash(container)
    stack.wait(run_id)
    assert stack.rows(ROWS, "killed") == stack.calm
    assert max(task["try_number"] for task in stack.tasks(run_id)) > 1
    stack.compose.wait_healthy("worker", count=3)
    (again,) = [item for item in stack.compose.containers("worker") if item["Id"] == container["Id"]]
    assert again["RestartCount"] == 1


def test_postgres_is_restarted_and_nothing_is_missing(stack: Installation) -> None:
    run_id = stack.trigger("restarted", batch_size=3)
    stack.working(run_id, "process")
    before = stack.compose.one("postgres")["State"]["StartedAt"]
    for line in lines_of("GleanerDatabaseUnreachable", "restart"):
        stack.type(line)
    assert stack.compose.one("postgres")["State"]["StartedAt"] > before
    stack.wait(run_id)
    assert stack.rows(ROWS, "restarted") == stack.calm


def test_the_knowledge_is_backed_up_and_verified_by_the_command(stack: Installation) -> None:
    done = stack.compose.run("run", "--rm", "airflow-init", "gleaner", "db", "backup")
    assert ".dump" in done.stdout, done.stdout
    files = stack.compose.exec("worker", "ls", "/opt/gleaner/backups").stdout.split()
    assert any(name.endswith(".json") for name in files), files
    for line in lines_of("Runbook", "airflow-init"):
        assert "nothing is off" in stack.type(line)
    dumped = stack.compose.exec(
        "postgres", "sh", "/opt/gleaner/compose/postgres.sh", "pg_dump", "-t", "ab_user", "airflow"
    )
    assert "looker" in dumped.stdout, dumped.stderr


def test_an_upgrade_is_backed_up_first_by_the_init_step(stack: Installation) -> None:
    """`up` with newer code: what is there is backed up, then migrated; nothing of it changes."""
    newest = migrations()[-1]
    stack.compose.run("run", "--rm", "airflow-init", "gleaner", "db", "rollback", "--lose-data", "--no-backup")
    version = "SELECT max(version) FROM gleaner.schema_migration"
    assert stack.rows(version) == [(newest.version - 1,)]
    before = set(stack.compose.exec("worker", "ls", "/opt/gleaner/backups").stdout.split())
    told = stack.compose.run("run", "--rm", "airflow-init", "init").stdout
    made = re.search(r"gleaner: knowledge: backed up as (\S+\.dump)\r?\n", told)
    assert made, told
    assert f"knowledge schema: applied {newest.label}" in told
    assert told.index("backed up as") < told.index("knowledge schema: applied")
    after = stack.compose.exec("worker", "ls", "/opt/gleaner/backups").stdout.split()
    assert made[1] in set(after) - before
    manifest = made[1].replace(".dump", ".json")
    kept = json.loads(stack.compose.exec("worker", "cat", f"/opt/gleaner/backups/{manifest}").stdout)
    assert kept["schema_version"] == newest.version - 1
    assert stack.rows(version) == [(newest.version,)]
    assert stack.rows(ROWS, "calm") == stack.calm
    # Once more there is nothing to do, and no backup is made.
    again = stack.compose.run("run", "--rm", "airflow-init", "init").stdout
    assert "knowledge schema is current" in again
    assert set(stack.compose.exec("worker", "ls", "/opt/gleaner/backups").stdout.split()) == set(after)


def test_old_logs_are_removed_and_nothing_else(stack: Installation) -> None:
    logs = "/opt/airflow/logs"
    old, new = f"{logs}/old/task/1.log", f"{logs}/new/task/1.log"
    made = f"mkdir -p {logs}/old/task {logs}/new/task && touch -d '91 days ago' {old} && touch -d '89 days ago' {new}"
    assert stack.compose.exec("tidy", "sh", "-c", made).returncode == 0
    before = stack.rows(EVERYTHING)
    done = stack.compose.exec("tidy", "/opt/gleaner/compose/entrypoint.sh", "tidy", "once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert stack.compose.exec("worker", "ls", old).returncode != 0
    assert stack.compose.exec("worker", "ls", new).returncode == 0
    assert stack.rows(EVERYTHING) == before
    assert stack.api.runs(DAG)


def test_down_and_up_again_with_secrets_from_files(stack: Installation, tmp_path: Path) -> None:
    """The data is in volumes: without -v, `down` takes the containers only."""
    before = stack.rows(EVERYTHING)
    runs = {run["dag_run_id"]: run["state"] for run in stack.api.runs(DAG)}
    stack.compose.run("--profile", "demo", "down")
    assert not stack.compose.containers("postgres")
    stack.secrets["knowledge_db_password"] = new_secrets()["knowledge_db_password"]  # and one is another by now
    stack.secrets["metrics_token"] = token_urlsafe(24)
    for name, value in {**stack.secrets, "openai_api_key": ""}.items():
        (tmp_path / name).write_text(value, "ascii")
        (tmp_path / name).chmod(0o444)
        stack.compose.settings.pop(f"GLEANER_{name.upper()}", None)
    stack.compose.settings["GLEANER_SECRETS_FOLDER"] = str(tmp_path)
    stack.compose.files = ("docker-compose.yaml", "deploy/compose/secrets.yaml")
    for line in lines_of("Monitor", "--profile monitoring up"):
        stack.type(line)
    stack.compose.settings["GLEANER_STATSD"] = "True"  # as the runbook says: else the next `up` starts everything again
    stack.with_sample_site(workers=2)
    environment = stack.compose.one("airflow-scheduler")["Config"]["Env"]
    assert not any(value in "".join(environment) for value in stack.secrets.values())
    assert stack.rows(EVERYTHING) == before
    assert {run["dag_run_id"]: run["state"] for run in stack.patiently(lambda: stack.api.runs(DAG))} == runs
    # And it goes on from there: nothing has changed on the website, so nothing is written.
    stack.wait(stack.trigger("calm"))
    assert stack.rows(ROWS, "calm") == stack.calm
    assert stack.rows(EVERYTHING)[1] == before[1]


def test_prometheus_has_the_metrics_of_gleaner_and_of_airflow(stack: Installation) -> None:
    """The profile `monitoring`, up since the last test; everything over the compose file's networks."""
    told: dict[str, Any] = {}

    def ask(path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{stack.compose.settings['GLEANER_PROMETHEUS_PORT']}/api/v1/{path}"
        told[path] = stack.patiently(lambda: requests.get(url, params=parameters, timeout=30)).json()["data"]
        return told[path]

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 180  # it asks each quarter of a minute
        while not condition():
            assert time.monotonic() < deadline, (told, stack.compose.logs("prometheus")[-2000:])
            time.sleep(1)

    def value(query: str) -> float:
        found = ask("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else 0.0

    wait(lambda: all(target["health"] == "up" for target in ask("targets")["activeTargets"]))
    assert {target["labels"]["job"]: target["scrapeUrl"] for target in told["targets"]["activeTargets"]} == {
        "gleaner": "http://airflow-apiserver:8080/gleaner/metrics",
        "airflow": "http://statsd-exporter:9102/metrics",
    }
    wait(lambda: value("gleaner_up") == 1)
    ((chunks,),) = stack.rows("SELECT count(*) FROM gleaner.tenant_knowledge")
    wait(lambda: value("sum(gleaner_chunks)") == chunks)
    wait(lambda: value("airflow_scheduler_heartbeat") > 0)  # of the scheduler
    wait(lambda: value('gleaner_stage_pages{stage="crawl"}') > 0)  # of the workers
    wait(lambda: value(f'airflow_task_finished{{dag_id="{DAG}",task_id="reconcile",state="success"}}') > 0)
    rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    for service in ("prometheus", "statsd-exporter"):
        host = stack.compose.one(service)["HostConfig"]
        assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"]), service
        assert stack.compose.exec(service, "id", "-u").stdout.strip() == "65534"
