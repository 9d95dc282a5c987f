"""`manage.py COMMAND` as the first thing that anybody does with an installation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from portal.operations.installation import COMPLETION, FIRST_USE, UPDATE
from tests.support.stack import PATIENCE, ROOT

CLASSIFY = ("classify", "--title", "Acoustic guitar with case", "--json")


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


def test_two_commands_at_once_prepare_a_fresh_installation_once(tmp_path: Path) -> None:
    processes = [begin(tmp_path, *CLASSIFY), begin(tmp_path, "models", "list")]
    (status, answer, errors), (other_status, listed, other_errors) = map(finish, processes)
    assert (status, other_status) == (0, 0), errors + other_errors
    assert json.loads(answer)["top5"][0]["slug"] == "musical-instruments"
    assert "starter" in listed
    assert (errors + other_errors).count(FIRST_USE) == 1

    status, _output, errors = finish(begin(tmp_path, "models", "list"))
    assert (status, errors) == (0, "")

    assert finish(begin(tmp_path, "migrate", "portal", "0004"))[0] == 0
    status, listed, errors = finish(begin(tmp_path, "models", "list"))
    assert (status, errors.strip()) == (0, UPDATE)
    assert "starter" in listed


def test_commands_that_need_no_tables_make_none(tmp_path: Path) -> None:
    for arguments in (["showmigrations", "portal"], ["makemigrations", "--check", "--dry-run"], ["classify", "--help"]):
        status, output, errors = finish(begin(tmp_path, *arguments))
        assert (status, errors) == (0, ""), errors
    _status, output, _errors = finish(begin(tmp_path, "showmigrations", "portal"))
    assert "[ ] 0001_initial" in output and "[X]" not in output


def test_an_installation_whose_preparation_was_killed_is_completed(tmp_path: Path) -> None:
    assert finish(begin(tmp_path, "migrate", "-v0"))[0] == 0
    status, listed, errors = finish(begin(tmp_path, "models", "list"))
    assert (status, errors.strip()) == (0, COMPLETION)
    assert "starter" in listed


def test_prepare_makes_the_tables_that_it_fills(tmp_path: Path) -> None:
    status, output, errors = finish(begin(tmp_path, "prepare"))
    assert (status, errors.strip()) == (0, FIRST_USE)
    assert "Categories: 18" in output


@pytest.fixture
def own_database() -> str:
    """The URL of an empty database on a server that Aisle did not start itself."""
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS somebodys_own")
        connection.execute("CREATE DATABASE somebodys_own")
    return url.replace("/aisle?", "/somebodys_own?")


def test_a_database_of_ones_own_is_left_to_its_owner(tmp_path: Path, own_database: str) -> None:
    status, output, errors = finish(begin(tmp_path, *CLASSIFY, DATABASE_URL=own_database))
    assert (status, output) == (1, "")
    assert errors.strip() == (
        "The database of DATABASE_URL is not ready for `classify`: run `manage.py migrate`, then `manage.py prepare`."
    )
    with psycopg.connect(own_database) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)

    assert finish(begin(tmp_path, "migrate", "-v0", DATABASE_URL=own_database))[0] == 0
    assert finish(begin(tmp_path, "models", "list", DATABASE_URL=own_database))[0] == 1
    assert finish(begin(tmp_path, "prepare", DATABASE_URL=own_database))[0] == 0
    assert finish(begin(tmp_path, "models", "list", DATABASE_URL=own_database))[0] == 0
