"""A signal that strikes where Python drops exceptions is not lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from include.gleaner.local import interrupts


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in interrupts._SIGNALS}
    monkeypatch.setattr(interrupts._State, "raised", None)
    interrupts.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Finalised:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1_000):
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_interrupt_is_raised_by_the_next_check() -> None:
    interrupts.check()
    thing = Finalised()
    del thing  # nothing is raised here
    with pytest.raises(interrupts.Interrupted) as caught:
        interrupts.check()
    assert caught.value.number == signal.SIGTERM


def test_what_is_held_back_comes_at_the_end() -> None:
    with pytest.raises(interrupts.Interrupted), interrupts.held_back():  # noqa: PT012 - where it is raised is the matter
        os.kill(os.getpid(), signal.SIGTERM)
        interrupts.check()
