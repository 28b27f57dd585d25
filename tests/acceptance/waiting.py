"""What runs of the sample website are asked for, and waiting for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.acceptance.conftest import Gleaner

TENANT = "orchestra"


def wait(gleaner: Gleaner, condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        gleaner.stack.airflow.check()
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def wait_for(gleaner: Gleaner, dag_id: str, run_id: str) -> str:
    state = "queued"

    def over() -> bool:
        nonlocal state
        state = gleaner.api.dag_run(dag_id, run_id)["state"]
        return state in ("success", "failed")

    wait(gleaner, over, f"{run_id} is {state}")
    return state


def conf(gleaner: Gleaner, tenant: str = TENANT, **more: Any) -> dict[str, Any]:
    return {"tenant": tenant, "url": gleaner.stack.website_url, "delay_seconds": 0, **more}
