"""The settings of Airflow with CeleryExecutor: tasks go to workers through a broker, on one machine or on many.

How soon Airflow notices what a dead worker, scheduler or broker left behind is set here. The numbers suit a product
that wants its answers within minutes; Airflow's own defaults are five and ten minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEARTBEAT_SECONDS: Final = 30  # without a sign of life a running task counts as dead, and is tried again
QUEUED_SECONDS: Final = 30.0  # a task that no worker took by then is sent once more: the broker may have lost it
ORPHANS_SECONDS: Final = 15.0  # between two looks for the tasks of a scheduler that is gone


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A broker, and how many workers of how many processes take tasks from it."""

    broker_url: str  # redis://..., with its password: not for logs
    workers: int = 3
    concurrency: int = 4  # of each worker

    @property
    def names(self) -> list[str]:
        """Of the workers, as components."""
        return [f"worker-{number}" for number in range(1, self.workers + 1)]

    def command(self, name: str) -> list[str]:
        """Arguments of `airflow` that start the component."""
        if name not in self.names:
            return [name]
        return ["celery", "worker", "--concurrency", str(self.concurrency), "--celery-hostname", f"{name}@%h",
                "--skip-serve-logs", "--without-gossip", "--without-mingle"]  # fmt: skip

    def settings(self, metadata: str) -> dict[str, str]:
        """Environment of every component; `metadata` is the SQLAlchemy URL of Airflow's database."""
        return {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
            # A process may stay so long after its task has ended, and hold a slot of its worker.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__CORE__PARALLELISM": str(4 * self.workers * self.concurrency),
            "AIRFLOW__CELERY__BROKER_URL": self.broker_url,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{metadata}",
            "AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS": "include.gleaner.celery_settings.OPTIONS",  # loads libraries once
            "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
            "AIRFLOW__CELERY__OPERATION_TIMEOUT": "10",
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_SECONDS),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": str(QUEUED_SECONDS),
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "5",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": str(ORPHANS_SECONDS),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
        }
