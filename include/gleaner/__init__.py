"""Gleaner: tenants' websites into a knowledge base in Postgres, on Apache Airflow."""

__version__ = "0.1.0"
