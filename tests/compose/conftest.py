"""The very docker-compose.yaml on a real engine; `make test-compose` installs what a machine may lack."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker_engine import DockerEngine
from tests.support.standin_images import StandinImages

# Outlives a run: images are made once for what they are made of.
CACHE = Path(os.environ.get("GLEANER_TEST_CACHE") or Path.home() / ".cache" / "gleaner-test-compose")
IMAGES = {
    "GLEANER_AIRFLOW_IMAGE": StandinImages.airflow,
    "GLEANER_POSTGRES_IMAGE": StandinImages.postgres,
    "GLEANER_REDIS_IMAGE": StandinImages.redis,
    "GLEANER_PROMETHEUS_IMAGE": StandinImages.prometheus,
    "GLEANER_STATSD_IMAGE": StandinImages.statsd,
}


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    with DockerEngine(CACHE) as found:
        if found.is_ours:  # what earlier versions of the code left
            found.run("image", "prune", "--force", "--filter", "until=48h")
        yield found


@pytest.fixture(scope="session")
def images(engine: DockerEngine) -> dict[str, str]:
    """Images by the variable of docker-compose.yaml: those of the environment, else stand-ins."""
    standins = StandinImages(engine, CACHE)
    return {variable: os.environ.get(variable) or make(standins) for variable, make in IMAGES.items()}
