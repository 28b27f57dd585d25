"""The Airflow pools that cap how much of the machine a run may take. Created by the project, never by hand.

airflow pools import pools.json        # after: python -m include.gleaner.pools > pools.json
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Pool:
    """One pool; a task instance takes one slot unless it says otherwise."""

    name: str
    slots: int
    description: str


def _slots(stage: str) -> int:
    """By GLEANER_<STAGE>_SLOTS; the same in every component, because batches are cut to fill the slots."""
    value = os.environ.get(f"GLEANER_{stage}_SLOTS", "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 6 and 0 < int(value) <= 10_000 else 4


CRAWL: Final = Pool(name="gleaner_crawl", slots=_slots("CRAWL"), description="Gleaner: crawls (waiting for websites)")
PROCESS: Final = Pool(
    name="gleaner_process", slots=_slots("PROCESS"), description="Gleaner: pages into documents (CPU)"
)
LOAD: Final = Pool(
    name="gleaner_load",
    slots=_slots("LOAD"),
    description="Gleaner: chunks, vectors, bulk load (CPU and endpoint)",
)
POOLS: Final = (CRAWL, PROCESS, LOAD)
FEWEST: Final = 2


def of_one_machine(cores: int) -> tuple[Pool, ...]:
    """The pools where all tasks share so many cores: no more that compute than cores, two at least.

    More of them only get in each other's way. What the environment says is left as it is.
    """
    return (CRAWL, *(_at_most(pool, max(cores, FEWEST)) for pool in (PROCESS, LOAD)))


def variable(pool: Pool) -> str:
    """What the environment calls the pool's slots."""
    return f"{pool.name.upper()}_SLOTS"


def _at_most(pool: Pool, cores: int) -> Pool:
    return pool if os.environ.get(variable(pool)) else replace(pool, slots=min(pool.slots, cores))


def as_json() -> str:
    """The pools in the form that `airflow pools import` reads."""
    return json.dumps({pool.name: {"slots": pool.slots, "description": pool.description} for pool in POOLS}, indent=2)


if __name__ == "__main__":
    sys.stdout.write(as_json() + "\n")
