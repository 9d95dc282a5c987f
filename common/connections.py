"""Return a thread's database connection to the pool while the thread waits for something else."""

from django.db import connection


def release() -> None:
    """Give this thread's connection back to the pool, unless a transaction is open on it."""
    if not connection.in_atomic_block:
        connection.close()
