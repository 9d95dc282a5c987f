"""`make run`, as a person at a terminal has it: start, use, Ctrl-C, start again."""

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


def start(home: Path, port: int) -> subprocess.Popen[str]:
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
    said, _nothing = process.communicate(timeout=PATIENCE)
    return said


def left_behind(home: Path) -> list[str]:
    """Processes that belong to this installation: by their environment, or, for servers that write over theirs, by
    the folder they work in."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("AISLE_HOME") == str(home) or Path(process.cwd()).is_relative_to(home):
                found.append(process.name())
        except psutil.Error:
            continue
    return found


@pytest.mark.timeout(300)
def test_it_starts_answers_stops_without_a_trace_and_keeps_the_data(tmp_path: Path) -> None:
    port, home = free_port(), tmp_path / "home"
    process = start(home, port)
    wait_until(lambda: is_ready(f"http://127.0.0.1:{port}/health/ready/"), "the first start")
    assert requests.get(f"http://127.0.0.1:{port}/accounts/login/", timeout=10).ok
    assert {"postgres", "valkey-server"} <= set(left_behind(home)), "the search below could find nothing"
    accounts = (home / "demo-accounts.json").read_text()
    assert (home / "demo-accounts.json").stat().st_mode & 0o077 == 0
    said = interrupt(process)
    for account in json.loads(accounts):
        assert account["email"] in said and account["password"] in said
    assert f"http://localhost:{port}/" in said
    wait_until(lambda: not left_behind(home), "the end of every process")

    process = start(home, port)
    wait_until(lambda: is_ready(f"http://127.0.0.1:{port}/health/ready/"), "the second start")
    interrupt(process)
    assert (home / "demo-accounts.json").read_text() == accounts
    wait_until(lambda: not left_behind(home), "the end of every process")


def test_a_busy_port_is_one_clear_sentence(tmp_path: Path) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said, _nothing = start(tmp_path / "home", port).communicate(timeout=PATIENCE)
    assert said.strip() == (
        f"CommandError: Port {port} is taken by another program. "
        f"Stop it, or choose another port: make run PORT={port + 1}"
    )
