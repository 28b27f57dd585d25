"""Asks the advisory service which of the pinned packages have known vulnerabilities.

    python -m tools.audit [REQUIREMENTS]

Exit code 0: none is known. 1: some are, and they are listed. 2: the service did not answer for all of them, so nothing
can be said.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def told(answer: str) -> tuple[int, list[str]]:
    """The exit code and the lines for people, from the JSON of pip-audit; it is empty when pip-audit failed.

    pip-audit itself is content when the service knows none of the packages, as a mirror without advisories does.
    """
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return 2, ["the advisory service cannot be reached: nothing was checked"]
    lines = list(_vulnerabilities(packages))
    if lines:
        return 1, [
            *lines,
            f"{len(lines)} vulnerabilities: raise the pins, or write down why they do no harm",
        ]
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    if skipped or not packages:
        return 2, [f"{len(skipped)} of {len(packages)} packages were not checked: the service does not know them"]
    return 0, [f"no vulnerability is known of {len(packages)} packages"]


def _vulnerabilities(packages: list[dict[str, object]]) -> Iterator[str]:
    for one in packages:
        found = one.get("vulns") or []
        assert isinstance(found, list)
        for vulnerability in found:
            fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            yield f"{one['name']} {one['version']}: {vulnerability['id']}, mended in {fixed}"


def main(arguments: list[str]) -> int:
    program = Path(os.environ.get("PIP_AUDIT", ".venv-audit/bin/pip-audit"))
    requirements = arguments[0] if arguments else "requirements.txt"
    done = subprocess.run(
        [str(program), "--requirement", requirements, "--no-deps", "--disable-pip", "--progress-spinner", "off",
         "--timeout", "20", "--format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    code, lines = told(done.stdout)
    print("\n".join(f"audit: {line}" for line in lines))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
