"""The weights of batches, as Airflow's scheduler is given them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.settings import get_policy_plugin_manager

from include.gleaner import fair_turns
from include.gleaner.config import MAX_BATCHES
from include.gleaner.defaults import DEFAULT_ARGS, FIRST
from plugins.gleaner_plugin import GleanerPlugin

BATCH = DEFAULT_ARGS["priority_weight"]


def weighed(map_index: int, *, dag_id: str = "ingest_website", weight: int = BATCH, task: bool = True) -> int:
    """What a task instance weighs after Airflow has asked its policies, twice as it does."""
    instance: Any = SimpleNamespace(
        dag_id=dag_id, task_id="load", map_index=map_index, priority_weight=weight,
        task=SimpleNamespace(priority_weight=weight) if task else None,
    )  # fmt: skip
    for _ in range(2):
        get_policy_plugin_manager().hook.task_instance_mutation_hook(task_instance=instance, dag_run=None)
    return int(instance.priority_weight)


@pytest.fixture(autouse=True)
def _loaded() -> None:
    GleanerPlugin.on_load()
    GleanerPlugin.on_load()  # Airflow may load plugins again


def test_each_batch_weighs_less_than_the_one_before_it_however_often_it_is_asked() -> None:
    assert [weighed(number) for number in range(-1, 4)] == [BATCH, BATCH, BATCH - 1, BATCH - 2, BATCH - 3]


def test_what_a_run_waits_for_weighs_more_than_any_batch_and_no_batch_less_than_nothing() -> None:
    assert weighed(-1, weight=FIRST["priority_weight"]) > BATCH
    assert weighed(MAX_BATCHES - 1) > 0


def test_others_are_left_alone() -> None:
    assert weighed(7, dag_id="theirs", weight=5) == 5
    assert weighed(7, task=False) == BATCH


def test_the_policy_is_known_once() -> None:
    known = [name for name, _ in get_policy_plugin_manager().list_name_plugin() if name == fair_turns.NAME]
    assert known == [fair_turns.NAME]
