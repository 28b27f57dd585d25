"""What a page is divided into before anything is chosen: leaves, and the containers they stand in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

LeafKind = Literal["heading", "paragraph", "item", "row", "code", "quote", "term", "definition"]


@dataclass(slots=True, kw_only=True)
class Leaf:
    kind: LeafKind
    text: str  # display text, without list markers; rows as Markdown
    weight: int  # words, or what takes their place in scripts without spaces
    link_weight: int  # of these, inside links
    container: int  # index into Outline.containers
    group: int = 0  # leaves with the same number belong to one list, table, quote or definition
    level: int = 0  # of a heading 1-6; nesting of a list item, from 0
    marker: str = ""  # what the leaf begins with: "- ", "3. ", ": "; "" in a continuation
    language: str | None = None  # of code
    place: int = 0  # of an image: how many leaves are before it


@dataclass(slots=True, kw_only=True)
class Container:
    parent: int  # -1 for the root
    flags: int  # of process.markers
    first: int  # leaves[first:end] stand inside
    end: int = 0
    name: str = ""  # of the element
    traits: int = 0  # of process.traits
    depth: int = 0
    path: int = 0  # the same number: the same names and classes, from the root on; counted from 0


@dataclass(slots=True, kw_only=True)
class Outline:
    leaves: list[Leaf] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    images: list[Leaf] = field(default_factory=list)  # what stands for images, apart: no model has seen such leaves
