"""The Airflow pools that cap how much of the machine a run may take. Created by the project, never by hand.

airflow pools import pools.json        # after: python -m include.gleaner.pools > pools.json
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Pool:
    """One pool; a task instance takes one slot unless it says otherwise."""

    name: str
    slots: int
    description: str


PROCESS: Final = Pool(name="gleaner_process", slots=4, description="Gleaner: pages into documents (CPU)")
LOAD: Final = Pool(
    name="gleaner_load", slots=4, description="Gleaner: chunks, vectors, bulk load (CPU, endpoint, database)"
)
POOLS: Final = (PROCESS, LOAD)


def as_json() -> str:
    """The pools in the form that `airflow pools import` reads."""
    return json.dumps({pool.name: {"slots": pool.slots, "description": pool.description} for pool in POOLS}, indent=2)


if __name__ == "__main__":
    sys.stdout.write(as_json() + "\n")
