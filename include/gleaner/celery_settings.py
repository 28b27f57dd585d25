"""Airflow's settings of Celery, and with them: a worker loads the libraries of the tasks before it forks.

AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS=include.gleaner.celery_settings.OPTIONS on workers, or on all components. The
settings are Airflow's own, unchanged. What they bring along is that this module is imported while a worker starts.
"""

from __future__ import annotations

import gc
import sys
from typing import Any, Final

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.signals import import_modules

from include.gleaner.preloading import preload

OPTIONS: Final[dict[str, Any]] = dict(DEFAULT_CELERY_CONFIG)


def load_libraries(**_: Any) -> None:
    """When a worker imports what its tasks need: before it forks the processes that each task is a fork of."""
    if sys.argv[1:3] == ["celery", "worker"] and preload():
        gc.collect()
        gc.freeze()  # what is loaded stays shared by all processes


import_modules.connect(load_libraries, weak=False)
