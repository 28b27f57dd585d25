"""One whole ingest through the pipeline's functions, without Airflow's scheduler; prints what it cost as JSON.

python -m benchmarks.ingest_once URL RUN_ID MAX_PAGES PROCESSES

The crawl is one forked process, batches are worked on by as many as a pool has slots. Modules and models are loaded
once, before the fork: what each task of Airflow costs by itself is measured elsewhere (`pages`). Connections are in the
environment.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import resource
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from airflow.sdk.exceptions import AirflowRescheduleException

from include.gleaner import pipeline

CONTEXT = multiprocessing.get_context("fork")


def main(url: str, run_id: str, max_pages: str, processes: str) -> None:
    """Ingest and print."""
    logging.disable(logging.INFO)
    _warm_up()
    ready = time.monotonic()
    params = {
        "tenant": "bench", "url": url, "delay_seconds": 0.0, "max_pages": int(max_pages), "max_depth": 100,
        "max_delete_share": 1.0,
    }  # fmt: skip
    told: dict[str, Any] = {"stages": {}, "rescheduled": 0}

    def measured(stage: str, work: Callable[[], Any]) -> Any:
        before, began = _cpu(), time.monotonic()
        result = work()
        told["stages"][stage] = {"seconds": time.monotonic() - began, "cpu": _cpu() - before}
        return result

    def mapped(task: Callable[..., Any], batches: list[dict[str, Any]]) -> None:
        with ProcessPoolExecutor(int(processes), mp_context=CONTEXT) as pool:
            for future in [pool.submit(_one, task, params, run_id, batch) for batch in batches]:
                told["rescheduled"] += future.result()

    def crawl() -> None:
        with ProcessPoolExecutor(1, mp_context=CONTEXT) as pool:
            pool.submit(pipeline.crawl_website, params, run_id).result()

    measured("crawl", crawl)
    batches = measured("plan", lambda: pipeline.plan_batches(params, run_id))
    told["batches"] = len(batches)
    if batches:
        measured("process", lambda: mapped(pipeline.process_pages, batches))
        loads = measured("survey", lambda: pipeline.survey_site(params, run_id))
        measured("load", lambda: mapped(pipeline.load_chunks, loads))
    if not told["rescheduled"]:
        report = measured("reconcile", lambda: pipeline.reconcile(params, run_id))
        told |= {"work": report["work"], "pages": report["crawl"]["visited"], "gap": report["gap"]}
    told["peak_mb"] = {
        "parent": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "task": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }
    told["seconds"] = time.monotonic() - ready
    told["cpu"] = sum(stage["cpu"] for stage in told["stages"].values())
    print("RESULT" + json.dumps(told))


def _warm_up() -> None:
    import airflow.providers.postgres.hooks.postgres  # noqa: F401

    import include.gleaner.crawl.crawler
    import include.gleaner.embed.client
    import include.gleaner.ops.migrate
    import include.gleaner.pipeline.loading
    import include.gleaner.pipeline.planning
    import include.gleaner.pipeline.processing
    import include.gleaner.pipeline.reconciling
    import include.gleaner.pipeline.surveying  # noqa: F401
    from include.gleaner.chunk.splitter import split
    from include.gleaner.config import ChunkPolicy
    from include.gleaner.models import Document, Snapshot
    from include.gleaner.process.document import read_document

    body = f"<title>A page</title><main><h1>A page</h1>{'<p>It says a few words about a garden.</p>' * 20}</main>"
    page = read_document(
        Snapshot(
            page_id=uuid.UUID(int=0), url="https://example.com/", generation=0, body=body.encode(), content_type=""
        )
    )
    assert isinstance(page, Document)
    split(page, ChunkPolicy(), "")


def _one(task: Callable[..., Any], params: dict[str, Any], run_id: str, batch: dict[str, Any]) -> int:
    try:
        task(params, run_id, batch, 1)
    except AirflowRescheduleException:
        return 1
    return 0


def _cpu() -> float:
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


if __name__ == "__main__":
    main(*sys.argv[1:5])
