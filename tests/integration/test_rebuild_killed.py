"""A rebuild that is killed anywhere is finished by the next one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from tests.support.articles import website
from tests.support.rework import DAY, damage, fetched_on, rebuild
from tests.support.tenant import Tenant

ROOT = Path(__file__).parents[2]
MODEL = "text-embedding-3-large"
LOADER = """
import json, sys
from datetime import datetime
from include.gleaner import pipeline
params, since, until = json.loads(sys.argv[1]), *map(datetime.fromisoformat, sys.argv[2:4])
print("ready", flush=True)
for batch in pipeline.find_pages_of_interval(params, "day", (since, until)):
    pipeline.reprocess_pages(params, (since, until), batch, 1)
for batch in pipeline.find_documents_of_interval(params, "day", (since, until)):
    pipeline.reload_chunks(params, (since, until), batch, 1)
"""


def test_a_rebuild_that_is_killed_anywhere_is_finished_by_the_next(tenant: Tenant) -> None:
    names = [f"page{number}" for number in range(120)]
    tenant.site.routes = website(*names)
    tenant.run()
    fetched_on(tenant, DAY, "/", *[f"/{name}" for name in names])
    expected = tenant.knowledge()
    damage(tenant)
    tenant.endpoint.configure(latency_ms=20)
    inputs = tenant.endpoint.stats().inputs
    params = {"model": MODEL}
    end = DAY + timedelta(days=1)
    for seconds in (0.0, 0.05, 0.1, 0.2, 0.3, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-c", LOADER, json.dumps(params), DAY.isoformat(), end.isoformat()],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert set(tenant.states().values()) == {"chunked"}
    rebuild(**params)
    rows = tenant.rows(
        "SELECT metadata->>'page_url', full_text FROM gleaner.tenant_knowledge WHERE embedding_model = %s"
        " AND embedding IS NOT NULL ORDER BY 1, chunk_index", MODEL,
    )  # fmt: skip
    assert [(url.removeprefix(tenant.site.url.rstrip("/")), text) for url, text in rows] == expected
    assert tenant.endpoint.stats().inputs - inputs <= 121 * 2  # at most what was under way when it was killed
