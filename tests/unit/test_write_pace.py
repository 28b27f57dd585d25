"""How long a work that writes much rests after each transaction."""

from __future__ import annotations

import pytest

from include.gleaner.ops.write_pace import LONGEST, WritePace


@pytest.mark.parametrize(
    ("spent", "written", "slow", "rest"),
    [
        (0.020, 1_000, 0.0005, 0.010),  # little was written: half of what it took (0.020 * 0.5)
        (0.020, 800_000, 0.0005, 0.0795),  # a tenth of a second's bytes, less what it took (0.1 - 0.020 - 0.0005)
        (0.020, 800_000, 0.060, 1.2),  # the disk is slow: twenty times as long (0.060 * 20)
        (0.020, 800_000, 1.0, LONGEST),
        (0.0, 0, 0.0, 0.0),
    ],
)
def test_it_rests_by_what_was_written_and_by_how_slow_the_disk_is(
    spent: float, written: int, slow: float, rest: float
) -> None:
    assert WritePace.rest(spent, written, slow) == pytest.approx(rest)
