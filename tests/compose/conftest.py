"""The very docker-compose.yaml on a real engine; `make test-compose` installs what a machine may lack."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.gleaner.local.airflow import free_port
from tests.support.compose import Compose, made_secrets
from tests.support.docker_engine import DockerEngine
from tests.support.installation import DAG, Installation
from tests.support.runbook import lines_of
from tests.support.standin_images import StandinImages

# Outlives a run: images are made once for what they are made of.
CACHE = Path(os.environ.get("GLEANER_TEST_CACHE") or Path.home() / ".cache" / "gleaner-test-compose")
IMAGES = {
    "GLEANER_AIRFLOW_IMAGE": StandinImages.airflow,
    "GLEANER_POSTGRES_IMAGE": StandinImages.postgres,
    "GLEANER_REDIS_IMAGE": StandinImages.redis,
    "GLEANER_PROMETHEUS_IMAGE": StandinImages.prometheus,
    "GLEANER_STATSD_IMAGE": StandinImages.statsd,
    "GLEANER_GRAFANA_IMAGE": StandinImages.grafana,
}


OF_COMPOSE = ("--filter", "label=com.docker.compose.project")


def remove_what_is_left(engine: DockerEngine) -> None:
    """Of runs that were killed, whose containers the engine starts again, and of earlier versions of the code."""
    if containers := engine.run("ps", "--all", "--quiet", *OF_COMPOSE).split():
        engine.run("rm", "--force", "--volumes", *containers)
    if volumes := engine.run("volume", "ls", "--quiet", *OF_COMPOSE).split():
        engine.run("volume", "rm", *volumes)
    if networks := engine.run("network", "ls", "--quiet", *OF_COMPOSE).split():
        engine.run("network", "rm", *networks)
    engine.run("image", "prune", "--force", "--filter", "until=48h")


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    with DockerEngine(CACHE) as found:
        if found.is_ours:
            remove_what_is_left(found)
        yield found


@pytest.fixture(scope="session")
def images(engine: DockerEngine) -> dict[str, str]:
    """Images by the variable of docker-compose.yaml: those of the environment, else stand-ins."""
    standins = StandinImages(engine, CACHE)
    return {variable: os.environ.get(variable) or make(standins) for variable, make in IMAGES.items()}


@pytest.fixture(scope="session")
def compose(
    engine: DockerEngine, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compose]:
    folder = tmp_path_factory.mktemp("compose")
    settings = {
        **images,
        "GLEANER_IMAGE": "gleaner-airflow:test",
        **{f"GLEANER_{name}PORT": str(free_port()) for name in ("", "PROMETHEUS_", "GRAFANA_")},
        "GLEANER_LOCAL_HOSTS": "sample-site:8000",
        "GLEANER_WORKER_CONCURRENCY": "2",
        "GLEANER_POSTGRES_SHARED_BUFFERS": "128MB",
    }
    found = Compose(engine, folder, settings)
    try:
        yield found
    finally:
        found.remove()


@pytest.fixture(scope="session")
def stack(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Deployed as the runbook says, with secrets that its script wrote; then the sample website and one more worker."""
    secrets = made_secrets(tmp_path_factory.mktemp("checkout"))
    compose.settings |= {f"GLEANER_{name.upper()}": value for name, value in secrets.items()}
    found = Installation(compose, secrets)
    told = {line: found.type(line) for line in lines_of("Deploy", "docker compose")}
    assert "Successfully tagged gleaner-airflow:test" in told["docker compose build"]
    assert len(compose.containers("worker")) == 2
    found.with_sample_site(workers=3)
    found.patiently(lambda: found.api.unpause(DAG))
    return found
