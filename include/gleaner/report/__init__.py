"""What a run does and did, read from the database and from nowhere else."""
