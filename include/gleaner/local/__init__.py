"""What `make run` starts on one machine: embedded Postgres, Airflow, a sample website. Production needs none of it."""
