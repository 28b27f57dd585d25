"""Real documentation out of Debian packages, fetched and unpacked without being installed: no root is needed."""

from __future__ import annotations

import subprocess
from pathlib import Path


def fetch_docs(package: str, folder: Path) -> Path:
    """Download a package from the Debian mirror and unpack it; the folder with its files.

    Uses lists and a cache of its own below `folder`, so that an empty or foreign apt state does not matter.
    """
    unpacked = folder / "unpacked"
    state = folder / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    options = [
        *("-o", f"Dir::State::Lists={state}/lists", "-o", f"Dir::Cache={state}/cache"),
        *("-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1", "-o", "Acquire::Languages=none"),
    ]
    for command in (["apt-get", *options, "update", "-qq"], ["apt-get", *options, "download", "-qq", package]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"apt-get failed; this test needs apt and a Debian mirror:\n{done.stderr}"
    (archive,) = folder.glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "-x", str(archive), str(unpacked)], check=True, timeout=120)
    return unpacked
