"""Run `make run` as a person at a terminal does: start, use, Ctrl-C, start again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from benchmarks.harness.processes import PATIENCE, ROOT, free_port, is_ready, wait_until


def run_start_command(home: Path, port: int) -> subprocess.Popen[str]:
    names = ("DATABASE_URL", "REDIS_URL")
    environment = {k: v for k, v in os.environ.items() if k not in names} | {"AISLE_HOME": str(home)}
    command = [sys.executable, "manage.py", "start", "--port", str(port)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=pipe, stderr=subprocess.STDOUT, start_new_session=True
    )


def interrupt(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C: the terminal sends SIGINT to the whole foreground group."""
    os.killpg(process.pid, signal.SIGINT)
    output, _nothing = process.communicate(timeout=PATIENCE)
    return output


def running_processes(home: Path) -> list[str]:
    """Return the processes that belong to this installation.

    Servers that overwrite their environment are found by the folder they work in.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("AISLE_HOME") == str(home) or Path(process.cwd()).is_relative_to(home):
                found.append(process.name())
        except psutil.Error:
            continue
    return found


@pytest.mark.timeout(300)
def test_the_start_command_runs_everything_stops_it_and_keeps_the_data(empty_home: Path) -> None:
    port, home = free_port(), empty_home
    process = run_start_command(home, port)
    wait_until(lambda: is_ready(f"http://127.0.0.1:{port}/health/ready/"), "the first start")
    assert requests.get(f"http://127.0.0.1:{port}/accounts/login/", timeout=10).ok
    assert {"postgres", "valkey-server"} <= set(running_processes(home)), "the search below could find nothing"
    accounts = (home / "demo-accounts.json").read_text()
    assert (home / "demo-accounts.json").stat().st_mode & 0o077 == 0
    output = interrupt(process)
    for account in json.loads(accounts):
        assert account["email"] in output and account["password"] in output
    assert f"http://localhost:{port}/" in output
    wait_until(lambda: not running_processes(home), "the end of every process")

    process = run_start_command(home, port)
    wait_until(lambda: is_ready(f"http://127.0.0.1:{port}/health/ready/"), "the second start")
    interrupt(process)
    assert (home / "demo-accounts.json").read_text() == accounts
    wait_until(lambda: not running_processes(home), "the end of every process")


def test_a_port_in_use_is_reported_in_one_sentence(empty_home: Path) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        output, _nothing = run_start_command(empty_home, port).communicate(timeout=PATIENCE)
    assert output.strip() == (
        f"CommandError: Port {port} is in use by another program. "
        f"Stop it, or choose another port: make run PORT={port + 1}"
    )
