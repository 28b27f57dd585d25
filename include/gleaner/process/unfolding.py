"""What is hidden at first and readers can have: in a tab, behind a link or a control, or when they look for it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Final

from include.gleaner.process import markers
from include.gleaner.process.leaves import Outline

CALLING: Final = frozenset(("aria-controls", "data-target", "data-bs-target"))  # attributes
_MOST_CALLED: Final = 20  # by one control
_LINKED: Final = 0.66  # of the words of a menu
_LEAST_LINKED: Final = 10  # words
_CLAIMS: Final = markers.MAIN | markers.ARTICLE | markers.BODY_TEXT


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
        hidden = [number for number, name in self._hidden if name in self._called]
        if not hidden:
            return
        boxes = outline.containers
        words = [0, *accumulate(leaf.weight for leaf in outline.leaves)]
        links = [0, *accumulate(leaf.link_weight for leaf in outline.leaves)]
        claimed = [False] * len(boxes)  # stands in what claims to be the content
        for number, box in enumerate(boxes[1:], 1):
            claimed[number] = claimed[box.parent] or bool(boxes[box.parent].flags & _CLAIMS)
        for number in hidden:
            box = boxes[number]
            linked = links[box.end] - links[box.first]
            is_menu = linked >= _LEAST_LINKED and linked >= _LINKED * (words[box.end] - words[box.first])
            if not is_menu or claimed[number]:
                box.flags &= ~(markers.UNSEEN | markers.HIDDEN)


def is_on_call(attributes: Mapping[str, str]) -> bool:
    """Whether an element itself says so: a panel of tabs, or what the browser unfolds for who looks for it."""
    return attributes.get("role") == "tabpanel" or attributes.get("hidden") == "until-found"
