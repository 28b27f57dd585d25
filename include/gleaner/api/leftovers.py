"""What is left of a tenant that was erased: it is Airflow's, or an operator's, and how they remove it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

Run = tuple[str, str]  # DAG, run id


def left_over(runs: Sequence[Run]) -> dict[str, Any]:
    """Each run that was the tenant's, with the request that deletes it and where its logs are; and what else to do.

    Airflow refuses to delete a run that is under way; nothing of Gleaner refers to one that is over.
    """
    dags = ",".join(sorted({dag_id for dag_id, _ in runs}) or ["ingest_website"])
    return {
        "runs": [
            {
                "dag_id": dag_id,
                "run_id": run_id,
                "delete": f"DELETE /api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}",
                "logs": f"dag_id={dag_id}/run_id={run_id}/",
            }
            for dag_id, run_id in runs
        ],
        "left": [
            {
                "what": f"Airflow's records of {len(runs)} runs, with their Params, reports and task states",
                "remove": "the requests below; each deletes one run, and nothing that others need",
            },
            {
                "what": "the logs of these runs, which Airflow does not delete with them",
                "remove": "these folders in the log storage, as Airflow names them if log_filename_template is its own",
            },
            {
                "what": "Airflow's audit log, which names the tenant",
                "remove": f"airflow db clean --tables log --dag-ids {dags} --skip-archive --clean-before-timestamp "
                "TIME; it removes the entries of other tenants too",
            },
            {
                "what": "Airflow's asset events, which name the tenant and its websites",
                "remove": "airflow db clean --tables asset_event --skip-archive --clean-before-timestamp TIME; "
                "it removes the events of all assets, --dag-ids does not work for them",
            },
            {
                "what": "backups that were made before",
                "remove": "python -m include.gleaner db backup --keep 1, which makes a new one and deletes the older; "
                "and whatever copies there are elsewhere",
            },
        ],
    }
