"""Tune the PostgreSQL of tests."""

import psycopg


def skip_syncing(url: str) -> None:
    """Let a server skip waiting for its disk: a test's data need not survive a power failure."""
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")  # type: ignore[call-overload]
        connection.execute("SELECT pg_reload_conf()")
