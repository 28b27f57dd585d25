"""Renders a chart of Airflow with deploy/kubernetes by helm, and says what is not as the values mean it.

    python -m tools.chart CHART [VERSION]

CHART is what helm takes: `apache-airflow/airflow` once its repository is added, or a folder. Exit code 0: all is as it
should be. 1: what is wrong is listed. 2: helm did not render it, and says why.
"""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import kubernetes_validate
import yaml

FOLDER: Final = Path(__file__).parents[1] / "deploy/kubernetes"
# Of the chart's containers, those that run Airflow and so need its settings; the others look after logs.
RUN_AIRFLOW: Final = {
    "scheduler", "api-server", "dag-processor", "triggerer", "run-airflow-migrations", "create-user",
}  # fmt: skip
WAITS: Final = "wait-for-airflow-migrations"  # before the others, in charts that do so
Object = dict[str, Any]


class NotRenderedError(Exception):
    """Helm refused the values, the pod template or the chart; the message is helm's."""


def values() -> Object:
    """What deploy/kubernetes/values.yaml says."""
    found: Object = yaml.safe_load((FOLDER / "values.yaml").read_text("utf-8"))
    return found


def render(
    chart: str | Path, *, more: Sequence[str] = (), release: str = "airflow", pod: Path | None = None
) -> list[Object]:
    """The objects that `helm upgrade --install` would send, in the namespace `knowledge`. Raises NotRenderedError.

    `more` are further arguments of helm, such as `--set`; `pod` stands in place of deploy/kubernetes/pod_template.yaml.
    """
    program = shutil.which("helm", path=str(Path(sys.executable).parent)) or "helm"
    command = [
        program, "template", release, str(chart), "--namespace", "knowledge", "--values", str(FOLDER / "values.yaml"),
        "--set-file", f"podTemplate={pod or FOLDER / 'pod_template.yaml'}", *more,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotRenderedError("there is no helm: requirements-dev.txt has it for Linux on x86-64 only") from None
    if done.returncode:
        raise NotRenderedError(done.stderr.strip())
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def task_pod(objects: list[Object]) -> str:
    """The text that the executor makes the pods of tasks from."""
    (found,) = [
        one["data"]["pod_template_file.yaml"]
        for one in objects
        if one["kind"] == "ConfigMap" and "pod_template_file.yaml" in one["data"]
    ]
    return str(found)


def settings(objects: list[Object]) -> configparser.ConfigParser:
    """The airflow.cfg that every component has."""
    parsed = configparser.ConfigParser(interpolation=None)
    for one in objects:
        if one["kind"] == "ConfigMap":
            parsed.read_string(one["data"].get("airflow.cfg", ""))
    return parsed


def complaints(objects: list[Object]) -> Iterator[str]:
    """One line for each thing that is not as the values mean it."""
    yield from _what_kubernetes_would_refuse(objects)
    yield from _what_should_not_be_there(objects)
    yield from _what_containers_lack(objects)
    yield from _secrets_not_used(objects)
    yield from _settings_that_differ(objects)
    yield from _what_tasks_lack(objects)


def _what_kubernetes_would_refuse(objects: list[Object]) -> Iterator[str]:
    for one in objects:
        try:
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            yield f"{_name(one)}: Kubernetes would refuse it: {str(error).splitlines()[0]}"


def _what_should_not_be_there(objects: list[Object]) -> Iterator[str]:
    asked = _secrets_asked_for(objects)
    for one in objects:
        if one["kind"] == "Secret" and one["metadata"]["name"] in asked:
            yield f"{_name(one)}: made by the chart, and perhaps another at each upgrade"
        if one["kind"] == "PersistentVolumeClaim" or one.get("spec", {}).get("volumeClaimTemplates"):
            yield f"{_name(one)}: claims a volume"
        if any(word in one["metadata"]["name"] for word in ("postgresql", "redis")):
            yield f"{_name(one)}: a service that is not wanted"


def _what_containers_lack(objects: list[Object]) -> Iterator[str]:
    meant = values()
    image = "{repository}:{tag}".format(**meant["images"]["airflow"])
    wanted = {item["name"]: item["value"] for item in meant["env"]}
    seen = set()
    for one, container in _containers(objects):
        if container["name"] not in RUN_AIRFLOW | {WAITS}:
            continue
        seen.add(container["name"])
        where = f"{_name(one)}, {container['name']}"
        if container["image"] != image:
            yield f"{where}: the image is {container['image']}"
        told = {item["name"]: item.get("value") for item in container.get("env") or []}
        yield from (f"{where}: {name} is not told" for name, value in wanted.items() if told.get(name) != value)
        if "gleaner-connections" not in {item["secretRef"]["name"] for item in container.get("envFrom") or []}:
            yield f"{where}: the connections are not told"
        if container["name"] == "scheduler" and one["spec"]["replicas"] != meant["scheduler"]["replicas"]:
            yield f"{where}: {one['spec']['replicas']} replicas"
    yield from (f"there is no container {name}" for name in sorted(RUN_AIRFLOW - seen))


def _secrets_not_used(objects: list[Object]) -> Iterator[str]:
    """What the values name, against what the containers ask for."""
    meant = values()
    own = _secrets(meant["createUserJob"]["env"])
    named = own | {meant["data"]["metadataSecretName"]}
    named |= {meant[key] for key in ("fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName")}
    asked = _secrets_asked_for(objects)
    for _, container in _containers(objects):
        if container["name"] == "create-user" and "$GLEANER_ADMIN_PASSWORD" not in str(container.get("args")):
            yield "the first user's password is not the one of the secret"
    yield from (f"the secret {name} is not used" for name in sorted(named - asked))
    yield from (f"the secret {name} is asked for, and not in the values" for name in sorted(asked - named))


def _secrets_asked_for(objects: list[Object]) -> set[str]:
    return {name for _, container in _containers(objects) for name in _secrets(container.get("env") or [])}


def _secrets(env: list[Object]) -> set[str]:
    sources = [item["valueFrom"]["secretKeyRef"] for item in env if "secretKeyRef" in item.get("valueFrom", {})]
    return {source["name"] for source in sources}


def _settings_that_differ(objects: list[Object]) -> Iterator[str]:
    found = settings(objects)
    meant = values()
    wanted = [
        ("core", "executor", meant["executor"]),
        *(
            (section, option, value)
            for section, options in meant["config"].items()
            for option, value in options.items()
        ),
    ]
    for section, option, value in wanted:
        if found.get(section, option, fallback=None) != str(value):
            yield f"airflow.cfg: {section}.{option} is {found.get(section, option, fallback='not there')}"
    server = urlsplit(found.get("core", "execution_api_server_url", fallback=""))
    ports = {
        one["metadata"]["name"]: [int(port["port"]) for port in one["spec"]["ports"]]
        for one in objects
        if one["kind"] == "Service"
    }
    if server.port not in ports.get(server.hostname or "", []):
        yield f"airflow.cfg: no service answers at core.execution_api_server_url, {server.geturl() or 'not there'}"


def _what_tasks_lack(objects: list[Object]) -> Iterator[str]:
    text = task_pod(objects)
    if "{{" in text:
        yield "the pod of a task: braces are left"
    pod = yaml.safe_load(text)
    yield from _what_kubernetes_would_refuse([pod])
    maps = {one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap"}
    for volume in pod["spec"]["volumes"]:
        if volume.get("configMap", {"name": next(iter(maps))})["name"] not in maps:
            yield f"the pod of a task: there is no ConfigMap {volume['configMap']['name']}"
    file = settings(objects).get("kubernetes_executor", "pod_template_file", fallback="")
    mounted = {
        mount["mountPath"]
        for _, container in _containers(objects)
        if container["name"] == "scheduler"
        for mount in container["volumeMounts"]
    }
    if file not in mounted:
        yield f"the scheduler has no file {file or 'of a pod template'}"


def _containers(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    for one in objects:
        spec = one.get("spec", {}).get("template", {}).get("spec", {})
        for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
            yield one, container


def _name(one: Object) -> str:
    return f"{one['kind']} {one['metadata']['name']}"


def main(arguments: list[str]) -> int:
    if not 1 <= len(arguments) <= 2:
        print(__doc__, file=sys.stderr)
        return 2
    chart, *version = arguments
    try:
        objects = render(chart, more=["--version", version[0]] if version else [])
    except NotRenderedError as error:
        print(f"chart: helm did not render it: {error}", file=sys.stderr)
        return 2
    found = list(complaints(objects))
    print("\n".join(f"chart: {line}" for line in found) or f"chart: {len(objects)} objects, all as they should be")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
