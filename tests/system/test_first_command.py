"""`manage.py COMMAND` as the first thing that anybody does with an installation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg

from portal.operations.installation import COMPLETION, FIRST_USE, UPDATE
from tests.support.stack import PATIENCE, ROOT, Stack

CLASSIFY = ("classify", "--title", "Acoustic guitar with case", "--json")
# What a preparation leaves that was killed after it had made the tables.
EMPTY = "TRUNCATE classifier_category, classifier_modelversion CASCADE"


def begin(home: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """Start a command on an installation of its own."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**inherited, "AISLE_HOME": str(home), **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Return the command's exit status, output and error output."""
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors


def test_two_commands_at_once_prepare_a_fresh_installation_once(empty_home: Path) -> None:
    processes = [begin(empty_home, *CLASSIFY), begin(empty_home, "models", "list")]
    (status, answer, errors), (other_status, listed, other_errors) = map(finish, processes)
    assert (status, other_status) == (0, 0), errors + other_errors
    assert json.loads(answer)["top5"][0]["slug"] == "musical-instruments"
    assert "starter" in listed
    assert (errors + other_errors).count(FIRST_USE) == 1


def test_commands_that_need_no_tables_make_none(tmp_path: Path) -> None:
    for arguments in (["makemigrations", "--check", "--dry-run"], ["classify", "--help"]):
        status, _output, errors = finish(begin(tmp_path, *arguments))
        assert (status, errors) == (0, ""), errors
    status, output, errors = finish(begin(tmp_path, "showmigrations", "portal"))
    assert (status, errors) == (0, "")
    assert "[ ] 0001_initial" in output and "[X]" not in output


def test_an_installation_with_older_tables_is_updated_once(home: Path) -> None:
    status, _output, errors = finish(begin(home, "migrate", "sessions", "zero", "-v0"))
    assert status == 0, errors
    status, output, errors = finish(begin(home, "prepare"))
    assert (status, errors.strip()) == (0, UPDATE)
    assert "Categories: 18" in output

    status, listed, errors = finish(begin(home, "models", "list"))
    assert (status, errors) == (0, "")
    assert "starter" in listed


def test_an_installation_whose_preparation_was_killed_is_completed(stack: Stack) -> None:
    stack.execute(EMPTY)
    stack.stop_servers()
    status, listed, errors = finish(begin(stack.home, "models", "list"))
    assert (status, errors.strip()) == (0, COMPLETION)
    assert "starter" in listed


def test_a_database_of_ones_own_is_left_to_its_owner(stack: Stack, tmp_path: Path) -> None:
    with psycopg.connect(stack.environment["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE DATABASE without_tables")
    fresh = stack.environment["DATABASE_URL"].replace("/aisle?", "/without_tables?")
    status, output, errors = finish(begin(tmp_path, *CLASSIFY, DATABASE_URL=fresh))
    assert (status, output) == (1, "")
    assert errors.strip() == (
        "The database of DATABASE_URL is not ready for `classify`: run `manage.py migrate`, then `manage.py prepare`."
    )
    with psycopg.connect(fresh) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    assert finish(begin(tmp_path, "migrate", "contenttypes", "-v0", DATABASE_URL=fresh))[0] == 0

    stack.execute(EMPTY)
    migrated = stack.environment["DATABASE_URL"]
    assert finish(begin(tmp_path, "models", "list", DATABASE_URL=migrated))[0] == 1
    assert finish(begin(tmp_path, "prepare", DATABASE_URL=migrated))[0] == 0
    assert finish(begin(tmp_path, "models", "list", DATABASE_URL=migrated))[0] == 0
