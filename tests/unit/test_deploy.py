"""docker-compose.yaml and what belongs to it: no secret goes in, no bad one gets through, and all versions agree."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.gleaner.local.cluster import Cluster
from include.gleaner.pools import POOLS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/compose"
FERNET = "c2l4dGVlbi1ieXRlcy1hbmQtc2l4dGVlbi1tb3JlLSE="
SECRETS = {
    "GLEANER_POSTGRES_PASSWORD": "a" * 20,
    "GLEANER_AIRFLOW_DB_PASSWORD": "b" * 20,
    "GLEANER_KNOWLEDGE_DB_PASSWORD": "c" * 20,
    "GLEANER_REDIS_PASSWORD": "d" * 20,
    "GLEANER_FERNET_KEY": FERNET,
    "GLEANER_API_SECRET_KEY": "e" * 20,
    "GLEANER_JWT_SECRET": "f" * 20,
    "GLEANER_ADMIN_PASSWORD": "g" * 20,
}
AIRFLOW = ("init", "apiserver", "scheduler", "dag-processor", "triggerer")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))
    return found


@pytest.fixture
def secrets_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


def preflight(environ: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(FOLDER / "preflight.sh")], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "GLEANER_SECRETS_FOLDER": str(folder), **environ},
    )  # fmt: skip


def test_good_secrets_pass(secrets_folder: Path) -> None:
    assert preflight(SECRETS, secrets_folder).returncode == 0


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_may_be_missing(name: str, secrets_folder: Path) -> None:
    done = preflight({**SECRETS, name: ""}, secrets_folder)
    assert done.returncode == 1
    assert done.stderr.startswith(f"gleaner: {name} is not set; nothing is started.")


@pytest.mark.parametrize("name", ["GLEANER_POSTGRES_PASSWORD", "GLEANER_ADMIN_PASSWORD"])
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("change-me", "is a default that everybody knows"),
        ("Airflow", "is a default that everybody knows"),
        ("short-but-own", "is shorter than 16 characters"),
        ("twenty characters !!", "has characters other than"),
        ("with$dollar-and-more", "has characters other than"),
        ('with"quote-and-more-', "has characters other than"),
    ],
)
def test_a_bad_secret_is_refused_in_one_line(name: str, value: str, complaint: str, secrets_folder: Path) -> None:
    done = preflight({**SECRETS, name: value}, secrets_folder)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"gleaner: {name} {complaint}")
    assert "make-secrets.sh" in line
    assert value not in line
    assert done.stdout == ""


@pytest.mark.parametrize("value", ["h" * 20, FERNET[:-1], FERNET.replace("c", "/", 1), f"{FERNET},{FERNET}x"])
def test_a_fernet_key_is_one(value: str, secrets_folder: Path) -> None:
    done = preflight({**SECRETS, "GLEANER_FERNET_KEY": value}, secrets_folder)
    assert done.returncode == 1
    assert "is no Fernet key" in done.stderr


def test_two_fernet_keys_may_stand_side_by_side(secrets_folder: Path) -> None:
    two = {**SECRETS, "GLEANER_FERNET_KEY": f"{FERNET},{FERNET[::-1].replace('=', 'x')}"}
    assert preflight(two, secrets_folder).returncode == 0


def test_secrets_come_from_files_too_and_the_environment_goes_first(secrets_folder: Path) -> None:
    for name, value in SECRETS.items():
        (secrets_folder / name.removeprefix("GLEANER_").lower()).write_text(f"{value}\n", "ascii")
    assert preflight({}, secrets_folder).returncode == 0
    assert "GLEANER_JWT_SECRET is a default" in preflight({"GLEANER_JWT_SECRET": "change-me"}, secrets_folder).stderr
    (secrets_folder / "jwt_secret").write_text("", "ascii")
    assert "GLEANER_JWT_SECRET is not set" in preflight({}, secrets_folder).stderr


@pytest.mark.parametrize(("on", "command", "there_after"), [
    ("True", "scheduler", 3), ("True", "celery worker", 3), ("True", "scheduler", 99), ("True", "version", 99),
    ("False", "scheduler", 99),
])  # fmt: skip
def test_components_wait_for_the_exporter_for_a_while(tmp_path: Path, on: str, command: str, there_after: int) -> None:
    tries = tmp_path / "tries"
    tools = {
        "getent": f'echo "$2" >> {tries}; [ "$(wc -l < {tries})" -gt {there_after} ]',
        "sleep": ":",
        "airflow": 'echo "started: $*"',
    }
    for name, script in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n", "ascii")
        (tmp_path / name).chmod(0o755)
    environ = {
        **SECRETS, "PATH": f"{tmp_path}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW__METRICS__STATSD_ON": on, "AIRFLOW__METRICS__STATSD_HOST": "statsd-exporter",
    }  # fmt: skip
    done = subprocess.run(
        ["sh", str(FOLDER / "entrypoint.sh"), *command.split()], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"started: {command}\n"
    asked = tries.read_text("ascii").split() if tries.exists() else []
    wanted = 0 if on == "False" or command == "version" else min(there_after + 1, 30)
    assert asked == ["statsd-exporter"] * wanted
    assert ("there is no host statsd-exporter" in done.stderr) is (wanted == 30)


def test_the_example_is_refused_as_it_stands(secrets_folder: Path) -> None:
    done = preflight(settings(ROOT / ".env.example"), secrets_folder)
    assert done.returncode == 1
    assert "GLEANER_POSTGRES_PASSWORD is a default" in done.stderr


def test_make_secrets_writes_good_ones_once(tmp_path: Path) -> None:
    for part in ("deploy/compose/make-secrets.sh", "deploy/compose/secrets.sh", ".env.example"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).write_bytes((ROOT / part).read_bytes())
    (tmp_path / "deploy/compose/secrets").mkdir()
    command = ["sh", str(tmp_path / "deploy/compose/make-secrets.sh")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first = settings(tmp_path / ".env")
    assert preflight(first, tmp_path / "none").returncode == 0
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert not any(first[name] in said for name in SECRETS)
    assert set(settings(ROOT / ".env.example")) == set(first)  # nothing else was lost
    subprocess.run(command, capture_output=True, check=True)
    assert settings(tmp_path / ".env") == first
    subprocess.run([*command, "--files"], capture_output=True, check=True)
    assert preflight({}, tmp_path / "deploy/compose/secrets").returncode == 0
    assert (tmp_path / "deploy/compose/secrets").stat().st_mode & 0o777 == 0o700


def settings(path: Path) -> dict[str, str]:
    pairs = re.findall(r"^(\w+)=(.*)$", path.read_text("utf-8"), re.MULTILINE)
    return dict(pairs)


def test_every_setting_is_in_the_example(compose: dict[str, Any]) -> None:
    """What the file asks the environment for has a line in .env.example, but for what hardly anybody changes."""
    asked = set(re.findall(r"\$\{(\w+):", (ROOT / "docker-compose.yaml").read_text("utf-8")))
    told = set(re.findall(r"^#?(\w+)=", (ROOT / ".env.example").read_text("utf-8"), re.MULTILINE))
    assert told <= asked
    common = {
        name for name in asked if re.search("PASSWORD|KEY|SECRET|TOKEN|HOSTS|SLOTS|WORKER_C|_PORT|BIND|URL", name)
    }
    assert common - told == {"GLEANER_PROMETHEUS_PORT", "GLEANER_GRAFANA_PORT"}


def test_no_secret_is_in_the_file(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|_KEY|TOKEN", variable):
                assert value == f"${{{variable}:-}}", (name, variable)


def test_who_gets_which_secret(compose: dict[str, Any]) -> None:
    """Only the server and the init step have the superuser's password, only the init step the knowledge's."""
    files = yaml.safe_load((FOLDER / "secrets.yaml").read_text("utf-8"))["services"]
    for name, service in compose["services"].items():
        given = {
            variable.removeprefix("GLEANER_").lower()
            for variable in service.get("environment", {})
            if re.search("PASSWORD|SECRET|_KEY|TOKEN", variable)
        }
        listed = [item if isinstance(item, str) else item["source"] for item in files.get(name, {}).get("secrets", [])]
        assert given == set(listed), name
        assert len(listed) == len(given), f"{name}: docker-compose 1.29 takes one of two of the same source"
        if name not in {"preflight", "postgres", "airflow-init"}:
            assert not given & {"postgres_password", "knowledge_db_password", "admin_password", "openai_api_key"}, name


def test_every_container_is_bound(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert service["restart"] == ("no" if name in {"preflight", "airflow-init"} else "unless-stopped"), name
        assert service.get("user", "0") != "0" or service["image"].startswith("${GLEANER_IMAGE:"), name
        for volume in service.get("volumes", []):
            source, _, rest = volume.partition(":")
            assert not source.startswith(".") or rest.endswith(":ro"), (name, volume)
        for port in service.get("ports", []):
            assert port.startswith(("${GLEANER_BIND:-127.0.0.1}:", "127.0.0.1:")), (name, port)
        if service["restart"] != "no" and not {"monitoring"} & set(service.get("profiles", [])):
            assert service["healthcheck"]["test"], name
    assert compose["networks"]["data"] == {"internal": True}
    assert compose["services"]["postgres"]["networks"] == compose["services"]["redis"]["networks"] == ["data"]
    assert re.search(r"^USER 50000:0$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)


def test_the_settings_of_the_cluster_are_those_that_are_tested_on_one_machine(compose: dict[str, Any]) -> None:
    by_entry = {"AIRFLOW__CELERY__BROKER_URL", "AIRFLOW__CELERY__RESULT_BACKEND", "AIRFLOW__CORE__PARALLELISM"}
    expected = Cluster(broker_url="redis://").settings("postgresql://")
    for name in (*(f"airflow-{part}" for part in AIRFLOW), "worker", "tidy"):
        given = compose["services"][name]["environment"]
        assert {key: given[key] for key in set(expected) - by_entry} == {
            key: value for key, value in expected.items() if key not in by_entry
        }, name
        assert {f"{pool.name.upper()}_SLOTS" for pool in POOLS} <= set(given)
    command = compose["services"]["worker"]["command"]
    tested = Cluster(broker_url="redis://", concurrency=7).command("worker-1")
    assert [part for part in tested if part not in {"7", "worker-1@%h"}] == [
        part for part in command if part not in {"${GLEANER_WORKER_CONCURRENCY:-4}", "worker@%h"}
    ]


@pytest.mark.parametrize("broken", [None, "/api/v2/version", "/execution/health"])
def test_an_api_server_is_healthy_when_it_serves_users_and_tasks(
    broken: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are asked: what tasks talk to is made at its first request, which is better this check than a task."""
    found = runpy.run_path(str(FOLDER / "healthcheck.py"))
    asked = []

    def http(url: str) -> str | None:
        asked.append(url.removeprefix("http://127.0.0.1:8080"))
        return "says 500" if asked[-1] == broken else None

    monkeypatch.setitem(found["main"].__globals__, "http", http)
    assert found["main"]("api-server") == (broken is not None)
    assert capsys.readouterr().err == ("says 500\n" if broken else "")
    assert broken is not None or asked == ["/api/v2/version", "/execution/health"]


def test_versions_agree(compose: dict[str, Any]) -> None:
    (airflow,) = re.findall(r"^apache-airflow==(\S+)", (ROOT / "requirements.txt").read_text("utf-8"), re.MULTILINE)
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    base = f"apache/airflow:slim-{airflow}-python3.12"
    assert f"ARG AIRFLOW_IMAGE={base}\n" in dockerfile
    assert compose["services"]["worker"]["build"]["args"]["AIRFLOW_IMAGE"] == f"${{GLEANER_AIRFLOW_IMAGE:-{base}}}"
    assert f"GLEANER_AIRFLOW_IMAGE={base}\n" in (ROOT / ".env.example").read_text("utf-8")
    for name, service in compose["services"].items():
        (tag,) = re.findall(r":-[\w./-]+:([\w.-]+)\}", service["image"])
        assert re.match(r"v?\d+\.\d+\.\d+", tag), (name, tag)  # no moving tag
    copied = set(re.findall(r"requirements[\w-]*\.txt", dockerfile))
    assert copied == requirements("requirements-image.txt")


def requirements(name: str) -> set[str]:
    """The file, and those that it names."""
    others = re.findall(r"^-r (\S+)", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    return {name}.union(*(requirements(other) for other in others))


def test_the_image_takes_in_no_more_than_it_needs() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert lines[1] == "*"
    assert "deploy/compose/secrets" in lines
    assert ".env" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert (FOLDER / "secrets/.gitignore").read_text("utf-8").splitlines() == ["*", "!.gitignore"]
