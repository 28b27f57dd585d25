"""What all tasks of Gleaner share unless they say otherwise."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from include.gleaner.retry_policy import RETRY_POLICY

DEFAULT_ARGS: Final[dict[str, Any]] = {
    "owner": "gleaner",
    "retries": 3,
    "retry_delay": timedelta(seconds=20),
    "retry_policy": RETRY_POLICY,
    "execution_timeout": timedelta(hours=1),  # longer than any statement timeout and the crawl's time budget
}
