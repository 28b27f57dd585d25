"""The curves of a run: how many task instances are running and queued."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

Sample = tuple[float, int, int]  # seconds, running, queued


def draw(path: Path, samples: Sequence[Sample], pages: int) -> None:
    """Running and queued task instances over the run, as a small SVG."""
    width, height, left, top = 640, 160, 40, 24
    end = max(samples[-1][0], 1.0)
    most = max(4, *(max(running, queued) for _, running, queued in samples))

    def line(index: int) -> str:
        return " ".join(
            f"{left + sample[0] / end * width:.1f},{top + height - sample[index] / most * height:.1f}"
            for sample in samples
        )

    label = 'font-family="sans-serif" font-size="12"'
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 60}" height="{height + 60}">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="{left}" y="16" {label}>{pages} pages: task instances running (blue) and queued (orange)</text>'
        f'<line x1="{left}" y1="{top + height}" x2="{left + width}" y2="{top + height}" stroke="#888"/>'
        f'<text x="8" y="{top + 8}" {label}>{most}</text><text x="8" y="{top + height}" {label}>0</text>'
        f'<text x="{left + width - 40}" y="{top + height + 18}" {label}>{end:.0f} s</text>'
        f'<polyline fill="none" stroke="#d97706" stroke-width="1.5" points="{line(2)}"/>'
        f'<polyline fill="none" stroke="#2563eb" stroke-width="1.5" points="{line(1)}"/></svg>\n',
        "utf-8",
    )
