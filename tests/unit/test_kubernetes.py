"""The pod template and the values for Kubernetes are what Kubernetes and Airflow take."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from include.gleaner.local.cluster import HEARTBEAT_SECONDS
from include.gleaner.pools import POOLS
from tools import chart

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"
STAND_IN = Path(__file__).parents[1] / "charts/airflow"
NEWEST = kubernetes_validate.latest_version()


@pytest.fixture
def pod() -> dict[str, Any]:
    """As helm leaves it in the chart's ConfigMap."""
    found: dict[str, Any] = yaml.safe_load(chart.task_pod(chart.render(STAND_IN)))
    return found


@pytest.fixture
def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "values.yaml").read_text("utf-8"))
    return found


def test_kubernetes_takes_the_pod(pod: dict[str, Any]) -> None:
    kubernetes_validate.validate(pod, NEWEST, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**pod, "spec": {**pod["spec"], "restartPolice": "Never"}}, NEWEST, strict=True)


def test_the_pod_is_one_that_the_executor_can_fill_in(pod: dict[str, Any]) -> None:
    (container,) = pod["spec"]["containers"]
    assert container["name"] == "base"
    assert "command" not in container
    assert pod["spec"]["restartPolicy"] == "Never"
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    writable = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/tmp", "/opt/airflow/logs"} <= writable
    assert not any(mount["mountPath"].startswith("/opt/gleaner") for mount in container["volumeMounts"])  # the model
    assert "GLEANER_CACHE_DIR" not in {
        item["name"] for item in container["env"]
    }  # the image's own has it, made and whole
    assert "password" not in (FOLDER / "pod_template.yaml").read_text("utf-8").lower()


def test_tasks_know_the_same_slots_as_the_scheduler(pod: dict[str, Any], values: dict[str, Any]) -> None:
    """The chart gives its `env` to its own components; the pods have what the template says."""
    (container,) = pod["spec"]["containers"]
    told = [
        {item["name"]: item["value"] for item in where if item["name"].endswith("_SLOTS")}
        for where in (container["env"], values["env"])
    ]
    assert told[0] == told[1] != {}


@pytest.mark.parametrize(("before", "arguments"), [
    ("", ["python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string", "{}"]),
    ("", ["bash", "-c", "exec airflow api-server"]),
    ("", ["airflow", "db", "check-migrations", "--migration-wait-timeout=60"]),
    ("airflow ", ["scheduler"]),
])  # fmt: skip
def test_the_images_entry_adds_nothing_to_what_the_chart_and_the_executor_say(
    before: str, arguments: list[str], tmp_path: Path
) -> None:
    """It asks for none of the secrets of the compose file, and leaves the chart's settings as they are."""
    for name in ("python", "bash", "airflow"):
        tell = 'echo "${0##*/} $*"\necho "$AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"'
        (tmp_path / name).write_text(f"#!/bin/sh\n{tell}\n", "ascii")
        (tmp_path / name).chmod(0o755)
    environ = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "the chart's",
    }  # fmt: skip
    entry = FOLDER.parent / "compose/entrypoint.sh"
    done = subprocess.run(["sh", str(entry), *arguments], env=environ, capture_output=True, text=True, check=True)
    said, kept = done.stdout.splitlines()
    assert said == before + " ".join(arguments)
    assert kept == "the chart's"


def test_the_values_name_settings_and_versions_that_there_are(values: dict[str, Any]) -> None:
    from airflow.configuration import conf

    known = conf.configuration_description
    for section, options in values["config"].items():
        if section == "kubernetes_executor":  # of a provider that only Kubernetes needs
            continue
        for option in options:
            assert option in known[section]["options"], (section, option)
    requirements = (FOLDER.parents[1] / "requirements.txt").read_text("utf-8")
    (version,) = re.findall(r"^apache-airflow==(\S+)", requirements, re.MULTILINE)
    assert values["airflowVersion"] == version
    slots = {item["name"] for item in values["env"]}
    assert {f"{pool.name.upper()}_SLOTS" for pool in POOLS} <= slots
    assert values["config"]["scheduler"]["task_instance_heartbeat_timeout"] == HEARTBEAT_SECONDS


def test_the_page_names_every_secret_that_is_asked_for(pod: dict[str, Any]) -> None:
    text = (FOLDER / "values.yaml").read_text("utf-8")
    asked = set(re.findall(r"\bgleaner-(?:airflow-[a-z]+|connections)\b", text))
    asked |= {source["secretRef"]["name"] for source in pod["spec"]["containers"][0]["envFrom"]}
    page = (FOLDER.parents[1] / "docs/orchestration.md").read_text("utf-8")
    table = page.split("| Secret | Keys |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(gleaner-[a-z-]+)`", table)) == asked
    for key in ("connection", "fernet-key", "api-secret-key", "jwt-secret", "password"):
        assert f"`{key}`" in table
        assert re.search(rf"\bkey:? {key}\b", text), key
