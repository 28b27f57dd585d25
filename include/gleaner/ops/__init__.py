"""What keeps an installation healthy: migrations."""
