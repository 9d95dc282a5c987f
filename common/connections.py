"""Database connections are few: a thread that waits for something else gives its own back."""

from django.db import connection


def release() -> None:
    """Give this thread's connection back to the pool, unless a transaction is open on it."""
    if not connection.in_atomic_block:
        connection.close()
