"""Counters and timers of the stages for Airflow's own StatsD or OpenTelemetry, as far as it is configured.

They tell what goes on now, packet by packet, and are lost when nobody listens; what has to be exact is in
report/metrics.py. Names carry the stage and nothing that grows: no tenant, no website. deploy/statsd/mapping.yml turns
them into metrics with labels.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

log = logging.getLogger(__name__)

PREFIX: Final = "gleaner."


def count(name: str, amount: int = 1) -> None:
    """Add to a counter. Nothing is sent for 0."""
    if amount > 0 and (stats := _stats()) is not None:
        _safely(stats.incr, PREFIX + name, count=amount)


def timing(name: str, seconds: float) -> None:
    """Tell how long something took."""
    if (stats := _stats()) is not None:
        _safely(stats.timing, PREFIX + name, seconds * 1_000)  # StatsD's timers are in milliseconds


def _stats() -> Any:
    """Airflow's, in its own processes only: nobody else would have configured it."""
    if "airflow.sdk" not in sys.modules:
        return None
    try:
        from airflow.sdk.observability import stats
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, no task fails for it
        log.debug("no counters are told: %s", type(error).__name__)
        return None
    return stats


def _safely(tell: Any, *arguments: Any, **named: Any) -> None:
    try:
        tell(*arguments, **named)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, no task fails for it
        log.debug("a counter was not told: %s", type(error).__name__)
