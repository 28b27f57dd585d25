"""Gleaner in Airflow's own processes. Registration only: what is registered is in include/gleaner."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from include.gleaner import fair_turns
from include.gleaner.api.lazy import KnowledgeApp
from include.gleaner.scheduling import PoolKeeper


class GleanerPlugin(AirflowPlugin):
    """Keeps the pools and the turns of batches; shows the page "Knowledge" in the navigation and on each DAG."""

    name = "gleaner"
    listeners = [PoolKeeper()]  # noqa: RUF012 - as Airflow declares it
    fastapi_apps = [{"name": "Gleaner", "app": KnowledgeApp(), "url_prefix": "/gleaner"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {"name": "Knowledge", "destination": "nav", "url_route": "gleaner", "href": "/gleaner/"},
        {"name": "Knowledge", "destination": "dag", "url_route": "gleaner_dag", "href": "/gleaner/?dag={DAG_ID}"},
    ]

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Called by Airflow in each process that loads plugins."""
        fair_turns.register()
