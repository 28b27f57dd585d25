"""The pods that Airflow's KubernetesExecutor makes of the pod template, as a cluster receives them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Queue
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from airflow.executors.workloads import ExecuteTask
from airflow.providers.cncf.kubernetes.executors.kubernetes_executor_types import KubernetesJob
from airflow.providers.cncf.kubernetes.executors.kubernetes_executor_utils import AirflowKubernetesScheduler
from airflow.providers.cncf.kubernetes.get_provider_info import get_provider_info
from airflow.providers.cncf.kubernetes.kube_config import KubeConfig
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes import client
from kubernetes.client import models as k8s

from tools import chart

STAND_IN = Path(__file__).parents[1] / "charts/airflow"
VALUES: dict[str, Any] = chart.values()


class _Cluster(BaseHTTPRequestHandler):
    """The one call of Kubernetes' API that starts a pod."""

    received: list[tuple[str, dict[str, Any]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, json.loads(body)))
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


class _Scheduler(AirflowKubernetesScheduler):
    """Airflow's own, without the processes that watch pods: there are none."""

    def _make_kube_watchers(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def received() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """Address of the API, and what it was asked for."""
    handler = type("Handler", (_Cluster,), {"received": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler.received
        server.shutdown()


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    """What helm makes of the values, by a stand-in of Airflow's chart."""
    return chart.render(STAND_IN)


@pytest.fixture
def template(objects: list[dict[str, Any]], tmp_path: Path) -> Path:
    """The pod template as the scheduler has it."""
    (tmp_path / "pod_template_file.yaml").write_text(chart.task_pod(objects), "utf-8")
    return tmp_path / "pod_template_file.yaml"


def started(
    template: Path,
    received: tuple[str, list[tuple[str, dict[str, Any]]]],
    environment: pytest.MonkeyPatch,
    executor_config: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The pod of the fourth mapped instance of `load`, as the cluster was asked for it."""
    url, asked = received
    image = VALUES["images"]["airflow"]
    for name, value in {
        **VALUES["config"]["kubernetes_executor"], "pod_template_file": str(template),
        "namespace": "knowledge", "worker_container_repository": image["repository"],
        "worker_container_tag": image["tag"],
    }.items():  # fmt: skip
        environment.setenv(f"AIRFLOW__KUBERNETES_EXECUTOR__{name.upper()}", str(value))
    workload = ExecuteTask.model_validate({
        "token": "a.b.c", "dag_rel_path": "ingest_website.py", "bundle_info": {"name": "dags-folder"}, "log_path": "x",
        "ti": {
            "id": uuid.uuid4(), "dag_version_id": uuid.uuid4(), "dag_id": "ingest_website", "task_id": "load",
            "run_id": "refresh__acme__2026-11-27T00:00:00+00:00", "try_number": 2, "map_index": 3, "pool_slots": 1,
            "queue": "default", "priority_weight": 1,
        },
    })  # fmt: skip
    api = client.CoreV1Api(client.ApiClient(client.Configuration(host=url)))
    scheduler = _Scheduler(
        kube_config=KubeConfig(), result_queue=Queue(), kube_client=api, scheduler_job_id="7",
    )  # fmt: skip
    try:
        scheduler.run_next(
            KubernetesJob(workload.ti.key, [workload], PodGenerator.from_obj(executor_config), None, None)
        )
    finally:
        scheduler._manager.shutdown()
    ((path, pod),) = asked
    assert path == "/api/v1/namespaces/knowledge/pods"
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    return pod


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container["env"]}


def test_a_mapped_task_gets_a_pod_that_kubernetes_takes(
    template: Path, received: tuple[str, list[tuple[str, dict[str, Any]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = started(template, received, monkeypatch)
    assert pod["metadata"]["annotations"]["map_index"] == "3"
    assert pod["metadata"]["labels"]["task_id"] == "load"
    assert pod["metadata"]["name"].startswith("ingest-website-load-")
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "gleaner-airflow:0.1.0"
    # The command is the task itself: read back as the pod would.
    assert container["args"][:3] == ["python", "-m", "airflow.sdk.execution_time.execute_workload"]
    task = ExecuteTask.model_validate_json(container["args"][4])
    assert (task.ti.task_id, task.ti.map_index, task.ti.try_number) == ("load", 3, 2)
    # What the template says is still there.
    written = yaml.safe_load(template.read_text("utf-8"))
    (own,) = written["spec"]["containers"]
    assert environment_of(own).items() <= environment_of(container).items()
    for part in ("securityContext", "resources", "volumeMounts", "envFrom"):
        assert container[part] == own[part], part
    for part in ("securityContext", "volumes", "restartPolicy", "automountServiceAccountToken"):
        assert pod["spec"][part] == written["spec"][part], part


def test_a_task_can_reach_the_api_server_of_the_chart(
    template: Path,
    received: tuple[str, list[tuple[str, dict[str, Any]]]],
    monkeypatch: pytest.MonkeyPatch,
    objects: list[dict[str, Any]],
) -> None:
    """By the chart's airflow.cfg, which nothing in its environment contradicts; else it asks its own pod, for ever."""
    pod = started(template, received, monkeypatch)
    (container,) = pod["spec"]["containers"]
    (mount,) = [one for one in container["volumeMounts"] if one["mountPath"] == "/opt/airflow/airflow.cfg"]
    (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == mount["name"]]
    (cfg,) = [
        one["data"][mount["subPath"]] for one in objects if one["metadata"]["name"] == volume["configMap"]["name"]
    ]
    (template.parent / "airflow.cfg").write_text(cfg, "utf-8")
    environ = {**environment_of(container), "PATH": os.environ["PATH"], "AIRFLOW_HOME": str(template.parent)}
    read = "from airflow.sdk.configuration import conf; print(conf.get('core', 'execution_api_server_url'))"
    done = subprocess.run([sys.executable, "-c", read], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "http://airflow-api-server:8080/execution/"
    assert "airflow-api-server" in {one["metadata"]["name"] for one in objects if one["kind"] == "Service"}


def test_what_a_task_asks_for_itself_wins(
    template: Path, received: tuple[str, list[tuple[str, dict[str, Any]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = k8s.V1ResourceRequirements(requests={"memory": "1Gi"}, limits={"memory": "2Gi", "cpu": "2"})
    wanted = k8s.V1Pod(spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base", resources=more)]))
    pod = started(template, received, monkeypatch, {"pod_override": wanted})
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "2Gi"
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_a_pod_that_kubernetes_would_refuse_is_noticed(
    template: Path, received: tuple[str, list[tuple[str, dict[str, Any]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    template.write_text(template.read_text("utf-8").replace("runAsUser: 50000", "runAsUser: root"), "utf-8")
    with pytest.raises(ValueError, match="root"):
        started(template, received, monkeypatch)


def test_the_values_name_options_of_the_executor() -> None:
    known = get_provider_info()["config"]["kubernetes_executor"]["options"]
    assert set(VALUES["config"]["kubernetes_executor"]) <= set(known)
