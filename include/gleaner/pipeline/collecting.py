"""Python's collector of cycles, held back where thousands of objects are made that are in none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def spare_modules() -> None:
    """Take what is loaded by now out of the collector's sight: a task's process ends before any module does.

    Airflow and the libraries are hundreds of thousands of objects, and each full collection would look at all of them.
    """
    gc.freeze()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Look for no garbage in cycles meanwhile: a tenth of the time that it takes to read a page is spent on looking.

    Objects that are in no cycle are freed as always. What few cycles a group of pages leaves behind is collected at the
    end. Nested and in a process that has the collector off already, it changes nothing.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect(1)
