"""Writes the software bill of materials of what runs in production, as CycloneDX 1.6 JSON.

    python -m tools.sbom [FILE]      default: standard output

The pinned requirements, with licences as the installed packages name them. The same pins give the same bytes.
"""

from __future__ import annotations

import sys
import uuid
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement

from include.gleaner import __version__
from tools.licences import licence_of

ROOT = Path(__file__).parents[1]
NAMESPACE = uuid.UUID("6f0a1d1e-3c44-5c0b-9a55-0c1a4a0b7c11")


def bill(requirements: Path, *, version: str, at: datetime) -> str:
    """The bill as JSON. `at` is when the release was made, so that the bytes do not depend on when this runs."""
    text = requirements.read_text("utf-8")
    bom = Bom(serial_number=uuid.uuid5(NAMESPACE, f"{version}\n{at.isoformat()}\n{text}"))
    bom.metadata.timestamp = at
    licences = LicenseFactory()
    gleaner = Component(
        name="gleaner", version=version, type=ComponentType.APPLICATION, bom_ref=f"gleaner@{version}",
        licenses=[licences.make_from_string("Apache-2.0")],
    )  # fmt: skip
    bom.metadata.component = gleaner
    parts: list[Component] = []
    for line in text.splitlines():
        if not line[:1].isalpha():
            continue
        requirement = Requirement(line)
        pinned = str(requirement.specifier).removeprefix("==")
        try:
            licence = licence_of(distribution(requirement.name))
        except PackageNotFoundError:  # another platform's
            licence = ""
        url = PackageURL(type="pypi", name=requirement.name, version=pinned)
        parts.append(
            Component(
                name=requirement.name, version=pinned, type=ComponentType.LIBRARY, purl=url, bom_ref=url.to_string(),
                licenses=[licences.make_from_string(licence)] if licence else [],
            )
        )  # fmt: skip
    bom.components.update(parts)
    bom.register_dependency(gleaner, parts)
    written = JsonV1Dot6(bom).output_as_string(indent=2)
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(written)
    if problem is not None:
        raise ValueError(f"this is no valid CycloneDX: {problem}")
    return written + "\n"


def main(arguments: list[str]) -> int:
    written = bill(ROOT / "requirements.txt", version=__version__, at=datetime.now(UTC).replace(microsecond=0))
    if arguments:
        Path(arguments[0]).write_text(written, "utf-8")
    else:
        sys.stdout.write(written)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
