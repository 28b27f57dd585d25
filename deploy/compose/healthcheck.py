"""Whether one component works, for a tenth of what `airflow jobs check` costs.

api-server, sample-site: it answers; the API server both users and tasks, and the first answer to tasks takes seconds,
so that it is better given to this check than to a task. worker: it answers a ping through the broker. SchedulerJob,
DagProcessorJob, TriggererJob: its heartbeat, of this container, is fresh in Airflow's database. Exit code 0 or 1, one
line on failure.
"""

from __future__ import annotations

import os
import socket
import sys
import urllib.request
from pathlib import Path
from urllib.parse import quote

SECONDS = 15
STALE_SECONDS = 60


def http(url: str) -> str | None:
    """What is wrong with the server."""
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 - both addresses are ours
        return None if answer.status == 200 else f"{url} says {answer.status}"


def job(kind: str) -> str | None:
    """What is wrong with the job of this container."""
    import psycopg

    with psycopg.connect(
        host=os.environ.get("GLEANER_POSTGRES_HOST", "postgres"),
        port=os.environ.get("GLEANER_POSTGRES_PORT", "5432"),
        user="airflow", dbname="airflow", password=secret("airflow_db_password"), connect_timeout=SECONDS,
    ) as conn:  # fmt: skip
        row = conn.execute(
            "SELECT extract(epoch FROM now() - max(latest_heartbeat)) FROM job"
            " WHERE job_type = %s AND hostname = %s AND state = 'running'",
            (kind, socket.gethostname()),
        ).fetchone()
    if row is None or row[0] is None:
        return f"no {kind} of this container runs"
    return None if row[0] < STALE_SECONDS else f"the last heartbeat of {kind} is {row[0]:.0f} s old"


def worker() -> str | None:
    """What is wrong with the worker of this container."""
    from celery import Celery

    host = os.environ.get("GLEANER_REDIS_HOST", "redis")
    name = f"worker@{socket.gethostname()}"
    control = Celery(broker=f"redis://:{quote(secret('redis_password'), safe='')}@{host}:6379/0").control
    return None if control.inspect(destination=[name], timeout=SECONDS).ping() else f"{name} does not answer"


def secret(name: str) -> str:
    """As secrets.sh reads them."""
    found = os.environ.get(f"GLEANER_{name.upper()}", "")
    return found or Path(os.environ.get("GLEANER_SECRETS_FOLDER", "/run/secrets"), name).read_text("ascii")


def main(kind: str) -> int:
    """0 when the component works."""
    try:
        if kind == "api-server":
            server = "http://127.0.0.1:8080"
            problem = http(f"{server}/api/v2/version") or http(f"{server}/execution/health")
        elif kind == "sample-site":
            problem = http("http://127.0.0.1:8000/")
        else:
            problem = worker() if kind == "worker" else job(kind)
    except Exception as error:  # noqa: BLE001 - whatever it is, the component does not work
        problem = f"{kind}: {type(error).__name__}"
    if problem:
        sys.stderr.write(f"{problem}\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
