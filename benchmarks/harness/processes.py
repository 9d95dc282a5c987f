"""Start, watch and stop the processes of an Aisle of its own, for benchmarks and for the tests of whole systems."""

import http.client
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PATIENCE = 180  # seconds; a limit against hanging for ever, not a measurement
STOP_SECONDS = 20  # that a process has to end by itself
SETTINGS = ("AISLE_", "AWS_", "DATABASE_URL", "REDIS_URL", "EMAIL_URL", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS")

Result = TypeVar("Result")


def isolate_environment(home: str | Path) -> None:
    """Take the settings of any other installation out of this process's environment; name `home` as its own."""
    for name in list(os.environ):
        if name.startswith(SETTINGS) and name != "AISLE_DATA":
            del os.environ[name]
    os.environ["AISLE_HOME"] = str(home)
    os.environ["UPLOAD_RATE"] = os.environ["API_RATE"] = "100000/minute"


def wait_until(condition: Callable[[], Result], what: str, seconds: float = PATIENCE) -> Result:
    """Return the condition's first true value; raise TimeoutError, which names `what`, if there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise TimeoutError(f"waited {seconds:.0f} s in vain for {what}")


def is_ready(address: str) -> bool:
    """Return whether an HTTP server answers at the address with 200."""
    try:
        with urllib.request.urlopen(address, timeout=5) as response:  # noqa: S310 - a local address
            return int(response.status) == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def free_port() -> int:
    """Return a TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def process_tree(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all its descendants; nothing if it has ended."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def stop_tree(process: psutil.Popen) -> None:
    """Interrupt a process as Ctrl-C does; kill what is left of it and its descendants after STOP_SECONDS."""
    members = process_tree(process)
    if members:
        process.send_signal(signal.SIGINT)
    for stubborn in psutil.wait_procs(members, timeout=STOP_SECONDS)[1]:
        stubborn.kill()


def kill_tree(process: psutil.Popen) -> None:
    """Kill a process and all its descendants at once, as a machine that loses its power would."""
    for member in process_tree(process):
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
