"""A stack, and a Prometheus that scrapes it; `make test-watch` installs Prometheus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from include.gleaner.local.stack import Stack, running

CAPACITY = 80_000_000  # bytes; more than the sample takes
TOKEN = "a-token-of-the-tests-0123456789"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Airflow whose API server has a token for Prometheus, with one ingested website."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "GLEANER_METRICS_TOKEN", TOKEN)
        patch.setitem(os.environ, "GLEANER_DATABASE_CAPACITY_BYTES", str(CAPACITY))
        with running(tmp_path_factory.mktemp("stack"), sample=True) as found:
            found.airflow.wait(partial(found.airflow.api.has_dag, "ingest_website"), "the DAG")
            yield found


@pytest.fixture(scope="session")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(TOKEN, "utf-8")
    return path
