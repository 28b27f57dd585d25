from __future__ import annotations

import gc

import pytest

from include.gleaner.pipeline.collecting import collector_paused


def test_the_collector_is_paused_and_comes_back_whatever_happens() -> None:
    assert gc.isenabled()
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), collector_paused():
        _ = 1 / 0
    assert gc.isenabled()


def test_cycles_are_collected_at_the_end() -> None:
    class Node:
        alive = 0

        def __init__(self) -> None:
            type(self).alive += 1
            self.me = self

        def __del__(self) -> None:
            type(self).alive -= 1

    with collector_paused():
        for _ in range(2_000):
            Node()
        assert Node.alive == 2_000
    assert Node.alive == 0
