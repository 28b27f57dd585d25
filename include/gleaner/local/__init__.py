"""What `make run` starts on one machine: embedded Postgres, Airflow, a sample website. Nothing here is needed in production."""
