"""CPU seconds of processes, out of /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """CPU seconds of one process, children not counted; 0 when there is no such process."""
    return _read(pid)[1]


def cpu_below(pid: int) -> float:
    """CPU seconds of all processes below `pid`, those that have ended and were waited for included."""
    found = {int(entry.name): _read(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    total = _read(pid)[2]
    for other in found:
        above = found[other][0]
        while above in found and above != pid:
            above = found[above][0]
        if above == pid:
            total += found[other][1] + found[other][2]
    return total


def _read(pid: int) -> tuple[int, float, float]:
    """Parent, own seconds, seconds of children that were waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return 0, 0.0, 0.0
    user, system, children_user, children_system = (int(value) / _TICKS for value in fields[11:15])
    return int(fields[1]), user + system, children_user + children_system
