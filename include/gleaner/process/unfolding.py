"""What is hidden at first and readers can have: in a tab, behind a link or a control, or when they look for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from include.gleaner.process import markers
from include.gleaner.process.leaves import Outline

CALLING: Final = frozenset(("aria-controls", "data-target", "data-bs-target"))  # attributes
_MOST_CALLED: Final = 20  # by one control
_LINKED: Final = 0.66  # of the words of a menu
_LEAST_LINKED: Final = 10  # words


class Unfolding:
    """Gathers, in one walk over a page, what is hidden and what something on the page unfolds."""

    def __init__(self) -> None:
        self._called: set[str] = set()  # ids
        self._hidden: list[tuple[int, str]] = []  # containers that are not shown, and their ids

    def note(self, attributes: Mapping[str, str]) -> None:
        """Remember what a control unfolds, by its attributes: some of CALLING."""
        for name in CALLING:
            if value := attributes.get(name):
                self._called.update(part.removeprefix("#") for part in value.split()[:_MOST_CALLED])

    def call(self, name: str) -> None:
        """Remember the id that a link leads to."""
        self._called.add(name)

    def hide(self, container: int, name: str) -> None:
        """Remember a container that is not shown, and its id."""
        self._hidden.append((container, name))

    def show(self, outline: Outline) -> None:
        """At the end of the walk: what is hidden and called is shown, unless it is a menu."""
        for number, name in self._hidden:
            if name in self._called and not _is_menu(outline, number):
                outline.containers[number].flags &= ~(markers.UNSEEN | markers.HIDDEN)


def _is_menu(outline: Outline, number: int) -> bool:
    """Whether a container is links and little else, and stands outside of what claims to be the content."""
    box = outline.containers[number]
    leaves = outline.leaves[box.first : box.end]
    linked = sum(leaf.link_weight for leaf in leaves)
    if linked < _LEAST_LINKED or linked < _LINKED * sum(leaf.weight for leaf in leaves):
        return False
    while box.parent >= 0:
        box = outline.containers[box.parent]
        if box.flags & (markers.MAIN | markers.ARTICLE | markers.BODY_TEXT):
            return False
    return True


def is_on_call(attributes: Mapping[str, str]) -> bool:
    """Whether an element itself says so: a panel of tabs, or what the browser unfolds for who looks for it."""
    return attributes.get("role") == "tabpanel" or attributes.get("hidden") == "until-found"
