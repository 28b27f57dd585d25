"""Ctrl-C, SIGTERM and a closed terminal, told as one exception, and held back where a step must not be torn."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The user, or the system, wants an end; carries the signal's number."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


class _State:
    held = 0
    pending: int | None = None
    raised: int | None = None


def install() -> None:
    """From now on these signals raise Interrupted in the main thread."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:  # nohup ignores SIGHUP: so do we
            signal.signal(number, _arrived)


@contextmanager
def held_back() -> Iterator[None]:
    """A step that no signal tears; one that arrives meanwhile is raised at its end."""
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
    if not _State.held and _State.pending is not None:
        number, _State.pending = _State.pending, None
        raise Interrupted(number)


@contextmanager
def ignored() -> Iterator[None]:
    """The way out: whoever has asked for the end gets it, however often they ask."""
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
        _State.pending = None


def check() -> None:
    """Raise again what was lost: Python drops an exception that strikes while an object is being finalised.

    Loops that wait call it.
    """
    if _State.raised is not None and not _State.held:
        raise Interrupted(_State.raised)


def _arrived(number: int, _frame: FrameType | None) -> None:
    if _State.held:
        _State.pending = number
    else:
        _State.raised = number
        raise Interrupted(number)
