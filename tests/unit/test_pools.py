"""How many tasks may compute at once."""

from __future__ import annotations

import pytest

from include.gleaner.pools import CRAWL, LOAD, POOLS, PROCESS, of_one_machine, variable


def slots(cores: int) -> dict[str, int]:
    return {pool.name: pool.slots for pool in of_one_machine(cores)}


@pytest.mark.parametrize(("cores", "expected"), [(1, 2), (2, 2), (3, 3), (4, 4), (64, 4)])
def test_one_machine_computes_no_more_at_once_than_it_has_cores(
    cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pool in POOLS:
        monkeypatch.delenv(variable(pool), raising=False)
    assert slots(cores) == {CRAWL.name: 4, PROCESS.name: expected, LOAD.name: expected}


def test_what_the_environment_says_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable(PROCESS), str(PROCESS.slots))
    monkeypatch.delenv(variable(LOAD), raising=False)
    assert slots(2) == {CRAWL.name: 4, PROCESS.name: 4, LOAD.name: 2}
