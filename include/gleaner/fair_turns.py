"""Whose batch is next, by the plugin: the first of each run before the second of any, whoever started it and when.

Airflow's scheduler takes task instances by weight, then by the logical date of their run, then by their number. By
itself it would take all batches of a run that was started from the form, which fills in a date, before any of a run
that came later. So each batch weighs one less than the one before it. Airflow asks for that with each task instance
that it makes or clears. Where the plugin is missing all batches weigh the same, and only runs without a logical date
take fair turns.
"""

from __future__ import annotations

from typing import Any, Final

from airflow.policies import hookimpl
from airflow.settings import get_policy_plugin_manager

from include.gleaner.scheduling import DAG_IDS

NAME: Final = "gleaner_fair_turns"


class FairTurns:
    """A policy of Airflow's, as a cluster's own `airflow_local_settings` may have others."""

    @hookimpl
    def task_instance_mutation_hook(self, task_instance: Any, dag_run: Any) -> None:
        """Called within the scheduler's transaction: it may not ask the database for anything, and may not fail."""
        task = task_instance.task
        if task is not None and task_instance.dag_id in DAG_IDS and task_instance.map_index > 0:
            task_instance.priority_weight = task.priority_weight - task_instance.map_index


def register() -> None:
    """Once in each process, however often the plugin is loaded."""
    manager = get_policy_plugin_manager()
    if not manager.has_plugin(NAME):
        manager.register(FairTurns(), name=NAME)
