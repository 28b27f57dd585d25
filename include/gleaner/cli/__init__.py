"""The `gleaner` command: a thin layer over Airflow's REST API and the knowledge database, for people and scripts."""
