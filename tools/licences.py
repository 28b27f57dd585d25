"""Says whether every package that Gleaner runs with may be used under its licence, by what the installed ones say.

    python -m tools.licences [REQUIREMENTS]      one line for each; exit code 1 when one may not

Permissive licences and those that bind changes to their own files are allowed. Everything else is judged by name, with
a reason that has to be read again when the licence changes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from license_expression import ExpressionError, LicenseSymbol, Licensing, get_spdx_licensing
from packaging.requirements import Requirement

ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0",
    "PSF-2.0", "Unlicense", "Zlib",
    "MPL-1.1", "MPL-2.0",  # bind changes to their own files; none are made
}  # fmt: skip
# What packages call their licence that do not use its SPDX name.
NAMES = {
    "3-Clause BSD License": "BSD-3-Clause", "Apache Software License": "Apache-2.0", "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC", "MIT License": "MIT", "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0", "The Unlicense (Unlicense)": "Unlicense",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-2.0-or-later",
    "GNU General Public License (GPL)": "GPL-1.0-or-later", "Artistic License": "Artistic-1.0-Perl",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
}  # fmt: skip
LIBRARY = "a library that is imported as it is and can be replaced: what the LGPL asks of who uses one"
# Package -> (what its licence is, why it may be used all the same).
JUDGED: Mapping[str, tuple[str, str]] = {
    "psycopg": ("LGPL-3.0-only", LIBRARY),
    "psycopg-binary": ("LGPL-3.0-only", LIBRARY),
    "psycopg2-binary": ("LGPL-2.0-or-later", LIBRARY + "; Airflow's own, with an exception for linking"),
    "text-unidecode": (
        "Artistic-1.0-Perl AND GPL-1.0-or-later AND GPL-2.0-or-later",
        "its README offers the Artistic License or the GPL: the Artistic License is taken; needed by python-slugify",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known of one package's licence."""

    package: str
    licence: str  # as SPDX names it; empty when none is named
    ok: bool
    reason: str = ""

    def __str__(self) -> str:
        return f"{'ok ' if self.ok else 'NOT'} {self.package}: {self.licence or 'none named'} {self.reason}".rstrip()


def licence_of(package: Distribution) -> str:
    """An SPDX expression, or what else the package says; empty when it says nothing.

    Several classifiers count as AND: they do not say that one may choose.
    """
    told = package.metadata
    if expression := told.get("License-Expression"):
        return str(expression)
    classifiers = [name.split(" :: ")[-1] for name in told.get_all("Classifier") or [] if name.startswith("License ::")]
    named = [NAMES.get(name, name) for name in classifiers if name != "OSI Approved"]
    if named:
        return " AND ".join(sorted(set(named)))
    line = (told.get("License") or "").strip().partition("\n")[0]
    return "" if line in ("", "UNKNOWN") else NAMES.get(line, line)


def is_allowed(expression: str) -> bool:
    """Whether the expression can be satisfied with allowed licences alone."""
    try:
        parsed = _spdx().parse(expression, validate=True)
    except ExpressionError:
        return False
    if parsed is None:
        return False

    def fits(node: object) -> bool:
        if isinstance(node, LicenseSymbol):
            return node.key in ALLOWED
        parts = [fits(part) for part in getattr(node, "args", ())]
        return bool(parts) and (any(parts) if type(node).__name__ == "OR" else all(parts))

    return fits(parsed)


@cache
def _spdx() -> Licensing:
    return get_spdx_licensing()


def judge(package: Distribution) -> Verdict:
    """Whether the package may be used."""
    name, licence = package.metadata["Name"].lower().replace("_", "-"), licence_of(package)
    if name in JUDGED:
        known, reason = JUDGED[name]
        if licence == known:
            return Verdict(package=name, licence=licence, ok=True, reason=f"({reason})")
    return Verdict(package=name, licence=licence, ok=is_allowed(licence))


def needed(path: Path) -> Iterator[str]:
    """Names in a file of pinned requirements that this machine needs."""
    for line in path.read_text("utf-8").splitlines():
        if line[:1].isalpha():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                yield requirement.name


def verdicts(path: Path) -> Iterator[Verdict]:
    """One for each package of a file of pinned requirements. One that is not installed cannot be judged: not ok."""
    for name in needed(path):
        try:
            yield judge(distribution(name))
        except PackageNotFoundError:
            yield Verdict(package=name, licence="", ok=False, reason="(not installed)")


def main(arguments: list[str]) -> int:
    found = list(verdicts(Path(arguments[0] if arguments else "requirements.txt")))
    for verdict in found:
        print(verdict)
    return 0 if all(verdict.ok for verdict in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
