"""Keeps the code of a release for the test of rolling upgrades: its workers have to finish on every newer schema.

    python -m tools.freeze_version COMMIT

writes tests/support/previous_version.tar.xz, include/gleaner as it was at that commit. Run it once a release was made.
"""

from __future__ import annotations

import lzma
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
ARCHIVE: Final = ROOT / "tests" / "support" / "previous_version.tar.xz"


def freeze(commit: str) -> int:
    """Write the archive; its size in bytes."""
    tar = subprocess.run(
        ["git", "archive", "--format=tar", commit, "include/gleaner"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    ARCHIVE.write_bytes(lzma.compress(tar, preset=9 | lzma.PRESET_EXTREME))
    return ARCHIVE.stat().st_size


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tools.freeze_version COMMIT")
    print(f"{ARCHIVE.name}: {freeze(sys.argv[1])} bytes")
