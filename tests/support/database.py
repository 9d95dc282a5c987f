"""Look at the database connections of the test's own process."""

from django.db import connection


def held_connections() -> int:
    """Return how many connections of this process's pool are in use."""
    stats = connection.pool.get_stats()
    return int(stats["pool_size"] - stats["pool_available"])
