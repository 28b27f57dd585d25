"""What is hidden at first and readers can have: in a tab, behind a link or a control, or when they look for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from include.gleaner.process import markers
from include.gleaner.process.leaves import Container

_CALLING: Final = frozenset(("aria-controls", "data-target", "data-bs-target"))
_MOST_CALLED: Final = 20  # by one control


class Unfolding:
    """Gathers, in one walk over a page, what is hidden and what something on the page unfolds."""

    def __init__(self) -> None:
        self._called: set[str] = set()  # ids
        self._hidden: list[tuple[int, str]] = []  # containers that are not shown, and their ids

    def note(self, attributes: Mapping[str, str]) -> None:
        """Remember what a control unfolds."""
        if _CALLING.isdisjoint(attributes):
            return
        for name in _CALLING:
            if value := attributes.get(name):
                self._called.update(part.removeprefix("#") for part in value.split()[:_MOST_CALLED])

    def call(self, name: str) -> None:
        """Remember the id that a link leads to."""
        self._called.add(name)

    def hide(self, container: int, name: str) -> None:
        """Remember a container that is not shown, and its id."""
        self._hidden.append((container, name))

    def show(self, containers: Sequence[Container]) -> None:
        """At the end of the walk: what is hidden and called is shown."""
        for number, name in self._hidden:
            if name in self._called:
                containers[number].flags &= ~(markers.UNSEEN | markers.HIDDEN)


def is_on_call(attributes: Mapping[str, str]) -> bool:
    """Whether an element itself says so: a panel of tabs, or what the browser unfolds for who looks for it."""
    return attributes.get("role") == "tabpanel" or attributes.get("hidden") == "until-found"
