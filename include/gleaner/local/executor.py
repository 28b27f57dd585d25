"""LocalExecutor where scheduler and tasks share cores: the scheduler works when something happened, and seldom else.

Airflow's scheduler looks for work at fixed intervals, and each look takes it 40 ms of CPU: often takes the cores from
the tasks, seldom leaves them without work between one task and the next. Whether a task has ended costs 1 ms to ask.
"""

from __future__ import annotations

import time
from typing import Any, Final

from airflow import settings
from airflow.executors.local_executor import LocalExecutor
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.state import DagRunState, TaskInstanceState
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

IDLE_SECONDS: Final = 0.25  # between two looks of the scheduler while no task is at work
BUSY_SECONDS: Final = 2.0  # while one is: for what is not asked for below, such as a task that was cleared
STEP_SECONDS: Final = 0.1

RUNNING: Final = select(func.count()).where(TaskInstance.state == TaskInstanceState.RUNNING).scalar_subquery()
QUEUED: Final = select(func.count()).where(DagRun.state == DagRunState.QUEUED).scalar_subquery()


class PromptExecutor(LocalExecutor):
    """Waits in `sync`, which the scheduler calls once in each of its loops; its own idle sleep is to be 0."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._at_work: set[Any] = set()
        self._seen = (0, 0)

    def sync(self) -> None:
        """Take in what workers told of tasks, after a wait for something that the scheduler has to do."""
        until = time.monotonic() + (BUSY_SECONDS if self._at_work else IDLE_SECONDS)
        # A worker tells of a task up to seconds after it has ended, when its process is gone.
        while self.result_queue.empty() and not self._has_happened() and time.monotonic() < until:
            time.sleep(STEP_SECONDS)
        super().sync()

    def change_state(self, key: Any, state: Any, info: Any = None, remove_running: bool = True) -> None:
        """As always; and know that the task has ended."""
        self._at_work.discard(key)
        super().change_state(key, state, info, remove_running)

    def _process_workloads(self, workload_list: Any) -> None:
        super()._process_workloads(workload_list)  # type: ignore[no-untyped-call]
        self._at_work.update(workload.key for workload in workload_list)

    def _has_happened(self) -> bool:
        """Whether a task has ended or a run was asked for since this was called before: then the scheduler looked."""
        running, queued = self._seen
        self._seen = _counts() if self._at_work else (0, 0)
        return self._seen[0] < running or self._seen[1] > queued


def _counts() -> tuple[int, int]:
    """Tasks at work and runs that wait, as the database has them; none while it cannot be asked."""
    try:
        with Session(settings.engine) as session:
            running, queued = session.execute(select(RUNNING, QUEUED)).one()
    except SQLAlchemyError:  # the scheduler will find out by itself
        return 0, 0
    return int(running), int(queued)
