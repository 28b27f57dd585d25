"""The page "Knowledge" in Airflow's web UI, and what it asks. Airflow's API server runs it under /gleaner.

Nothing here is imported by a DAG. Other processes of Airflow load the plugin too, so it registers `lazy.KnowledgeApp`
only: what it needs is imported when the first request comes.
"""
