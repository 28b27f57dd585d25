"""What all tasks of Gleaner share unless they say otherwise."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from include.gleaner.lateness import deadline
from include.gleaner.retry_policy import RETRY_POLICY

BATCH_NAME: Final = "{{ task.op_kwargs['batch']['label'] }}"  # of a mapped task, in the UI

# A task that a whole run waits for comes before anybody's batches; among batches, the first of each run before the
# second of any: Airflow orders by weight, then by number of the batch. A long site holds up a short one by one batch.
FIRST: Final[dict[str, Any]] = {"priority_weight": 10}

DEFAULT_ARGS: Final[dict[str, Any]] = {
    "owner": "gleaner",
    "weight_rule": "absolute",
    "retries": 3,
    "retry_delay": timedelta(seconds=20),
    "retry_policy": RETRY_POLICY,
    "execution_timeout": timedelta(hours=1),  # longer than any statement timeout and the crawl's time budget
}

DAG_ARGS: Final[dict[str, Any]] = {"default_args": DEFAULT_ARGS, "deadline": deadline()}
