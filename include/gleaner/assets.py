"""The Airflow assets that Gleaner's runs produce, so that other DAGs can wait for them."""

from __future__ import annotations

from airflow.sdk import Asset

TENANT_KNOWLEDGE = Asset(name="tenant_knowledge", uri="gleaner://tenant_knowledge")
