"""Named queries, kept in the .sql files of this folder.

A query begins with a line `-- name --`; the comment lines after it say what it does; its values are bound by name.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString, cast

_HEADER = re.compile(r"^-- (\w+) --\s*$", re.MULTILINE)


@cache
def queries(file: str) -> dict[str, LiteralString]:
    """All queries of `file`.sql by name.

    The text is trusted because it ships with the package, hence LiteralString, which psycopg asks for.
    Raises FileNotFoundError for an unknown file, ValueError when two queries share a name.
    """
    text = files(__package__).joinpath(f"{file}.sql").read_text("utf-8")
    parts = _HEADER.split(text)
    names = parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file}.sql has two queries of one name")
    return {name: cast(LiteralString, body.strip()) for name, body in zip(names, parts[2::2], strict=True)}
