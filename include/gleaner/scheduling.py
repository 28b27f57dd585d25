"""What Gleaner does in Airflow's scheduler, by the plugin: pools and assets are there before they are needed.

A task whose pool does not exist is never run and says nothing, so a missing pool is made. One that exists is left as it
is: its slots are for the operator to choose. An asset that is only announced is made by Airflow when the first task
that announces it ends; of two that end at the same moment one would be red, so it is made when the run starts.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from airflow.listeners import hookimpl

from include.gleaner.pools import POOLS
from include.gleaner.preloading import is_local_scheduler, preload, set_aside

log = logging.getLogger(__name__)

DAG_IDS: Final = frozenset({"ingest_website", "refresh_websites", "rebuild_knowledge", "maintain_knowledge"})


class PoolKeeper:
    """Listens to the scheduler."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """When a component starts, and each task too, in a process that was forked from one.

        What starts is a job that does not know yet of what kind it is.
        """
        if type(component).__name__ == "Job" and "scheduler" in sys.argv[1:2]:
            if is_local_scheduler():
                preload()
            make_missing_pools()

    @hookimpl
    def on_dag_run_running(self, dag_run: Any, msg: str) -> None:
        """When a run of one of Gleaner's DAGs starts."""
        if dag_run.dag_id in DAG_IDS:
            if is_local_scheduler():
                set_aside()
            make_missing_pools()
            tenant = (dag_run.conf or {}).get("tenant")
            make_missing_assets(tenant if isinstance(tenant, str) else "")


def make_missing_pools() -> list[str]:
    """Make the pools that are not there; their names.

    In a session and a connection of its own: the scheduler's may not be committed while it holds its locks. Another
    scheduler may do the same at the same moment. Whatever goes wrong is logged and does not stop the scheduler.
    """
    from airflow import settings
    from airflow.models.pool import Pool
    from sqlalchemy import select
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError
    from sqlalchemy.orm import Session

    try:
        with Session(settings.engine) as session:
            there = set(session.scalars(select(Pool.pool)))
            missing = [pool for pool in POOLS if pool.name not in there]
            session.add_all(
                Pool(pool=pool.name, slots=pool.slots, description=pool.description, include_deferred=False)
                for pool in missing
            )
            session.commit()
    except IntegrityError:
        return []
    except SQLAlchemyError as error:
        log.warning("the pools could not be looked at: %s", type(error).__name__)
        return []
    for pool in missing:
        log.warning("pool %s was not there; made with %d slots", pool.name, pool.slots)
    return [pool.name for pool in missing]


def make_missing_assets(tenant: str) -> None:
    """Make the assets of the tenant, and of all of them, and name them as what Gleaner's alias stands for.

    As `make_missing_pools` does: in a session of its own, beside others, and without harm to the scheduler.
    """
    from airflow import settings
    from airflow.models.asset import AssetAliasModel, AssetModel
    from sqlalchemy import select
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError
    from sqlalchemy.orm import Session

    from include.gleaner.assets import ANNOUNCED, TENANT_KNOWLEDGE, knowledge_of

    for wanted in (TENANT_KNOWLEDGE, *([knowledge_of(tenant)] if tenant else [])):
        try:
            with Session(settings.engine) as session:
                alias = session.scalar(select(AssetAliasModel).where(AssetAliasModel.name == ANNOUNCED.name))
                asset = session.scalar(
                    select(AssetModel).where(AssetModel.name == wanted.name, AssetModel.uri == wanted.uri)
                )
                if asset is None:
                    asset = AssetModel(name=wanted.name, uri=wanted.uri, group="asset", extra={})
                    session.add(asset)
                if alias is not None and alias not in asset.aliases:
                    asset.aliases.append(alias)
                session.commit()
        except IntegrityError:
            continue  # somebody else has made it
        except (SQLAlchemyError, ValueError) as error:
            log.warning("asset %s could not be looked at: %s", wanted.name, type(error).__name__)
