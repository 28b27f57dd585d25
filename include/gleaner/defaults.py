"""What all tasks of Gleaner share unless they say otherwise."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, Final

from include.gleaner.lateness import deadline
from include.gleaner.retry_policy import RETRY_POLICY

BATCH_NAME: Final = "{{ task.op_kwargs['batch']['label'] }}"  # of a mapped task, in the UI

# A task that a whole run waits for comes before anybody's batches. Among batches the first of each run comes before
# the second of any (fair_turns.py takes the batch's number off), so that a long site holds up a short one by one batch.
# The last of 1,000 batches is still not behind everybody else's tasks: pools hold Gleaner's back, nothing else should.
FIRST: Final[dict[str, Any]] = {"priority_weight": 2_000}


def _batches_per_run() -> int | None:
    """By GLEANER_BATCHES_PER_RUN; without it as many as the pool has slots, so that who is alone has all of them."""
    value = os.environ.get("GLEANER_BATCHES_PER_RUN", "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 6 and int(value) else None


DEFAULT_ARGS: Final[dict[str, Any]] = {
    "owner": "gleaner",
    "priority_weight": 1_100,
    "weight_rule": "absolute",
    "max_active_tis_per_dagrun": _batches_per_run(),
    "retries": 3,
    "retry_delay": timedelta(seconds=20),
    "retry_policy": RETRY_POLICY,
    "execution_timeout": timedelta(hours=1),  # longer than any statement timeout and the crawl's time budget
}

DAG_ARGS: Final[dict[str, Any]] = {"default_args": DEFAULT_ARGS, "deadline": deadline()}
