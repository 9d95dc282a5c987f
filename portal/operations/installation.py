"""Bring an installation's database up to date before a command needs it.

With the embedded PostgreSQL that happens by itself. A database of one's own is not changed: its operator decides when
its tables change.
"""

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import call_command, get_commands
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from common.locks import Lock, try_lock

# Commands that create or describe the tables, or never read them.
WITHOUT_TABLES = {
    "check", "check_production", "collectstatic", "compilemessages", "dbshell", "diffsettings", "findstatic", "help",
    "inspectdb", "makemessages", "makemigrations", "migrate", "optimizemigration", "sendtestemail",
    "showmigrations", "spectacular", "sqlflush", "sqlmigrate", "sqlsequencereset", "squashmigrations", "start",
    "startapp", "startproject", "test", "testserver", "version", "write_docs",
}  # fmt: skip
# Commands that fill the tables themselves. `train_starter` must not find the starters that it is to replace.
WITHOUT_STARTERS = {"prepare", "train_starter"}
OWN_APPS = {"classifier", "feedback", "portal", "training"}
LOCK_PAUSE = 0.2  # seconds
FIRST_USE = "First use of this installation: creating the tables and loading the starter models. This takes a while."
UPDATE = "This installation has tables of an older version of Aisle: bringing them up to date."
COMPLETION = "This installation is not complete: loading the categories and the starter models."


class NotPrepared(Exception):
    """The database is not ready for a command; the message says what to run."""


def prepare_for(command: str, *, is_embedded: bool) -> None:
    """Migrate and prepare the embedded database where the command needs it and it has not been done.

    `is_embedded` is False for a database of one's own, for which NotPrepared is raised instead.
    """
    if command in WITHOUT_TABLES or command not in get_commands():
        return
    needs_starters = _is_own(command) and command not in WITHOUT_STARTERS
    try:
        # Without the lock: nearly every command finds all ready and must not wait for another.
        if _is_ready(needs_starters):
            return
    except OperationalError:  # no server answers; the command says so in its own words
        return
    finally:
        connection.close()
    if not is_embedded:
        raise NotPrepared(
            f"The database of DATABASE_URL is not ready for `{command}`: run `manage.py migrate`, then "
            "`manage.py prepare`."
        )
    with _one_process():
        # Another command may have done it while this one waited.
        if not _is_ready(needs_starters):
            print(_reason(), file=sys.stderr, flush=True)
            _migrate()
            if command not in WITHOUT_STARTERS:
                _load_starters()
    connection.close()


def bring_up_to_date() -> None:
    """Apply new migrations, and load what this version of Aisle brings; one process at a time."""
    with _one_process():
        _migrate()
        _load_starters()


@contextmanager
def _one_process() -> Iterator[None]:
    """Hold the lock of preparation for the block.

    The lock is tried again and again, because a statement that waits for it would deadlock with the migration that
    holds it: CREATE INDEX CONCURRENTLY waits for every statement that runs.
    """
    while True:
        with try_lock(Lock.PREPARATION) as is_mine:
            if is_mine:
                yield
                return
        time.sleep(LOCK_PAUSE)


def _is_own(command: str) -> bool:
    """Return whether the command is one of Aisle's, which work on categories and models."""
    return get_commands()[command] in OWN_APPS


def _is_ready(needs_starters: bool) -> bool:
    return not _unapplied_migrations() and (_has_starters() or not needs_starters)


def _unapplied_migrations() -> int:
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _has_starters() -> bool:
    from classifier.models import Category, ModelVersion

    return Category.objects.exists() and ModelVersion.objects.exists()


def _reason() -> str:
    if "django_migrations" not in connection.introspection.table_names():
        return FIRST_USE
    return UPDATE if _unapplied_migrations() else COMPLETION


def _migrate() -> None:
    call_command("migrate", interactive=False, verbosity=0)


def _load_starters() -> None:
    call_command("prepare", verbosity=0, stdout=io.StringIO())
