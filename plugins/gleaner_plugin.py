"""Gleaner in Airflow's own processes. Registration only: what is registered is in include/gleaner."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from include.gleaner.scheduling import PoolKeeper


class GleanerPlugin(AirflowPlugin):
    """Keeps the pools."""

    name = "gleaner"
    listeners = [PoolKeeper()]  # noqa: RUF012 - as Airflow declares it
