"""What each service of docker-compose.yaml keeps, waits for, reaches and is started with.

Most of it shows in `make test-compose` too, minutes later; that what is kept is in a volume shows there only where a
container is made anew.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/compose"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
AIRFLOW = ("airflow-apiserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer", "worker", "tidy")
FERNET = "c2l4dGVlbi1ieXRlcy1hbmQtc2l4dGVlbi1tb3JlLSE="
SECRETS = {
    "GLEANER_POSTGRES_PASSWORD": "a" * 20,
    "GLEANER_AIRFLOW_DB_PASSWORD": "b@/:%" * 5,
    "GLEANER_REDIS_PASSWORD": "d@/:%" * 5,
    "GLEANER_FERNET_KEY": FERNET,
    "GLEANER_API_SECRET_KEY": "e" * 20,
    "GLEANER_JWT_SECRET": "f" * 20,
}


def mounts(service: str) -> dict[str, str]:
    """What is at which place of the container: a named volume, or a folder of this repository."""
    parts = [volume.split(":") for volume in SERVICES[service].get("volumes", [])]
    return {target: source for source, target, *_ in parts}


def test_what_must_outlive_a_container_is_in_a_volume() -> None:
    assert mounts("postgres")[SERVICES["postgres"]["environment"]["PGDATA"]] == "postgres-data"
    (folder,) = re.findall(r"^dir (\S+)$", (FOLDER / "redis.sh").read_text("utf-8"), re.MULTILINE)
    assert mounts("redis")[folder] == "redis-data"
    (option,) = [one for one in SERVICES["prometheus"]["command"] if "tsdb.path" in one]
    assert mounts("prometheus")[option.partition("=")[2]] == "prometheus-data"
    assert mounts("grafana")["/var/lib/grafana"] == "grafana-data"
    for name in ("airflow-init", *AIRFLOW):
        assert mounts(name)["/opt/airflow/logs"] == "airflow-logs", name
        assert mounts(name)[SERVICES[name]["environment"]["GLEANER_BACKUP_DIR"]] == "backups", name
    used = {source for name in SERVICES for source in mounts(name).values() if not source.startswith(".")}
    assert used == set(COMPOSE["volumes"])


def test_what_a_service_is_told_to_read_is_mounted_there() -> None:
    told = {
        "preflight": SERVICES["preflight"]["entrypoint"], "postgres": SERVICES["postgres"]["entrypoint"],
        "redis": [*SERVICES["redis"]["entrypoint"], *SERVICES["redis"]["healthcheck"]["test"]],
        "statsd-exporter": SERVICES["statsd-exporter"]["command"],
        "prometheus": [*SERVICES["prometheus"]["entrypoint"], *SERVICES["prometheus"]["command"][:1]],
        "grafana": [*SERVICES["grafana"]["entrypoint"], *provisioned()],
    }  # fmt: skip
    for name, words in told.items():
        places = [place for word in words for place in re.findall(r"(?:^|=)(/(?!bin/)[\w/.-]+)", word)]
        assert places, name
        for place in places:
            inside = [ROOT / source / place[len(target) :].lstrip("/") for target, source in mounts(name).items()
                      if place.startswith(target)]  # fmt: skip
            assert [path for path in inside if path.exists()], (name, place)
    rules = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))["rule_files"]
    assert all(list((ROOT / "deploy/prometheus").glob(rule)) for rule in rules)


def provisioned() -> list[str]:
    """Where Grafana looks for how it is set up, and where that says the dashboards are."""
    folder = "/etc/grafana/provisioning"
    path = ROOT / "deploy/grafana/provisioning/dashboards/gleaner.yml"
    (provider,) = yaml.safe_load(path.read_text("utf-8"))["providers"]
    return [f"{folder}/datasources", f"{folder}/dashboards", provider["options"]["path"]]


def test_each_check_looks_at_its_own_service() -> None:
    """One that looks at another, or at nothing, calls a dead service healthy."""
    kinds = {
        "airflow-apiserver": "api-server", "airflow-scheduler": "SchedulerJob", "worker": "worker",
        "airflow-dag-processor": "DagProcessorJob", "airflow-triggerer": "TriggererJob", "sample-site": "sample-site",
    }  # fmt: skip
    for name, kind in kinds.items():
        check = ["CMD", "python", "/opt/gleaner/compose/healthcheck.py", kind]
        assert SERVICES[name]["healthcheck"]["test"] == check, name
    redis = ["CMD", "/bin/sh", "/opt/gleaner/compose/redis.sh", "ping"]
    assert SERVICES["redis"]["healthcheck"]["test"] == redis
    postgres = SERVICES["postgres"]["healthcheck"]["test"]
    assert postgres[:2] == ["CMD", "pg_isready"]
    assert postgres[postgres.index("-h") + 1] == "127.0.0.1"  # its socket answers while it is still being made


def test_nothing_starts_before_what_it_needs() -> None:
    done, healthy = {"condition": "service_completed_successfully"}, {"condition": "service_healthy"}
    assert SERVICES["airflow-init"]["depends_on"] == {"postgres": healthy, "redis": healthy}
    for name in ("postgres", "redis"):
        assert SERVICES[name]["depends_on"] == {"preflight": done}, name
    for name in AIRFLOW:
        assert SERVICES[name]["depends_on"] == {"airflow-init": done}, name


def test_who_reaches_whom() -> None:
    for name in AIRFLOW:
        assert {"data", "airflow"} <= set(SERVICES[name]["networks"]), name
        sends_metrics = name != "tidy"
        assert ("monitoring" in SERVICES[name]["networks"]) is sends_metrics, name
    assert SERVICES["sample-site"]["networks"] == ["airflow"]
    for name in ("statsd-exporter", "prometheus", "grafana"):
        assert SERVICES[name]["networks"] == ["monitoring"], name


def test_who_is_stopped_has_time_to_end() -> None:
    assert SERVICES["worker"]["environment"]["DUMB_INIT_SETSID"] == "0"
    assert SERVICES["worker"]["stop_grace_period"] == "${GLEANER_WORKER_GRACE:-120s}"
    assert SERVICES["postgres"]["stop_signal"] == "SIGINT"
    assert SERVICES["postgres"]["stop_grace_period"] == "120s"
    assert all(SERVICES[name]["stop_grace_period"] for name in (*AIRFLOW, "redis"))


def test_an_address_of_users_and_of_proxies_is_what_is_set() -> None:
    environment = SERVICES["airflow-apiserver"]["environment"]
    assert environment["AIRFLOW__API__BASE_URL"].startswith("${GLEANER_BASE_URL:-")
    assert environment["FORWARDED_ALLOW_IPS"] == "${GLEANER_TRUSTED_PROXIES:-127.0.0.1}"
    assert environment["GLEANER_METRICS_TOKEN"] == "${GLEANER_METRICS_TOKEN:-}"


@pytest.fixture
def started(tmp_path: Path) -> Any:
    """Starts a service by its own entry; what it would run tells how it was started."""
    tell = '#!/bin/sh\necho "$0 $*"\nenv\n[ "${0##*/}" = redis-server ] && cat\nexit 0\n'
    for name in ("airflow", "find", "touch", "redis-server", "redis-cli", "docker-entrypoint.sh"):
        (tmp_path / name).write_text(tell, "ascii")
        (tmp_path / name).chmod(0o755)
    path = os.pathsep.join((str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]))

    def start(script: str, *words: str, **environ: str) -> tuple[str, dict[str, str]]:
        done = subprocess.run(
            ["sh", str(FOLDER / script), *words], env={"PATH": path, **SECRETS, **environ}, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return done.stdout, dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    return start


def test_airflow_gets_each_secret_where_it_looks_for_it(started: Any) -> None:
    told, environ = started("entrypoint.sh", "scheduler")
    assert told.splitlines()[0].endswith("airflow scheduler")
    database = "airflow:" + "b%40%2F%3A%25" * 5 + "@postgres:5432/airflow"
    assert environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"postgresql+psycopg2://{database}"
    assert environ["AIRFLOW__CELERY__RESULT_BACKEND"] == f"db+postgresql+psycopg2://{database}"
    assert environ["AIRFLOW__CELERY__BROKER_URL"] == "redis://:" + "d%40%2F%3A%25" * 5 + "@redis:6379/0"
    assert environ["AIRFLOW__CORE__FERNET_KEY"] == FERNET
    assert environ["AIRFLOW__API__SECRET_KEY"] == "e" * 20
    assert environ["AIRFLOW__API_AUTH__JWT_SECRET"] == "f" * 20
    assert "AIRFLOW__FAB__COOKIE_SECURE" not in environ
    _, environ = started("entrypoint.sh", "api-server", AIRFLOW__API__BASE_URL="https://knowledge.example")
    assert (environ["AIRFLOW__FAB__COOKIE_SECURE"], environ["AIRFLOW__FAB__ENABLE_PROXY_FIX"]) == ("True", "True")


def test_postgres_asks_everybody_for_a_password(started: Any) -> None:
    told, environ = started("postgres.sh", GLEANER_POSTGRES_SHARED_BUFFERS="77MB")
    assert environ["POSTGRES_PASSWORD"] == "a" * 20
    methods = re.findall(r"--auth(?:-\w+)?=(\S+)", environ["POSTGRES_INITDB_ARGS"])
    assert methods == ["scram-sha-256", "scram-sha-256"]
    assert "-c shared_buffers=77MB" in told


def test_redis_loses_nothing_and_asks_for_its_password(started: Any) -> None:
    told, _ = started("redis.sh")
    for line in (f'requirepass "{SECRETS["GLEANER_REDIS_PASSWORD"]}"', "appendonly yes", "maxmemory-policy noeviction"):
        assert line in told.splitlines()
    assert SECRETS["GLEANER_REDIS_PASSWORD"] not in told.splitlines()[0]  # the command line, which all may read


def test_only_what_is_old_is_tidied(started: Any) -> None:
    told, _ = started("tidy.sh", "once", GLEANER_KEEP_DAYS="30")
    lines = [line.partition("/find ")[2] for line in told.splitlines() if "/find " in line]
    assert lines == [
        "/opt/airflow/logs -type f -mtime +30 -delete",
        "/opt/airflow/logs -mindepth 1 -type d -empty -mtime +1 -delete",
    ]
    (clean,) = re.findall(r"airflow db clean --yes --skip-archive --clean-before-timestamp (\S+)$", told, re.MULTILINE)
    assert 29.9 < (datetime.now(UTC) - datetime.fromisoformat(clean)).total_seconds() / 86_400 < 30.1
