"""What `manage.py start` does with processes that end; small ones stand in for Aisle's."""

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import os, sys
from pathlib import Path
from portal.operations import supervisor
supervisor.SHORTEST_PAUSE = 0.1
commands = dict(zip(sys.argv[1::2], sys.argv[2::2]))
sys.exit(supervisor.run(commands, vital="web", silence=60, grace=10, environment=os.environ, folder=Path.cwd()))
"""
ROOT = Path(__file__).parents[3]
SLEEPER = "sleep 60"


def start(**commands: str) -> "subprocess.Popen[str]":
    words = [word for pair in commands.items() for word in pair]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def shell(script: str) -> str:
    return f"sh -c {shlex.quote(script)}"


def test_a_web_process_that_cannot_start_ends_all_and_its_words_are_shown() -> None:
    process = start(web=shell("echo no such port; exit 3"), beat=SLEEPER)
    said, _nothing = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "web      | no such port" in said


def test_a_worker_that_ends_is_restarted_while_the_others_continue(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    process = start(web=SLEEPER, predict=shell(f"echo started >> {starts}; exit 1"))
    deadline = time.monotonic() + 60
    while not (starts.exists() and len(starts.read_text().split()) >= 3) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, _nothing = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.count("predict  | ended with status 1; it is started again") >= 2


def test_ctrl_c_lets_each_process_finish_what_it_has_in_hand(tmp_path: Path) -> None:
    ready, finished = tmp_path / "ready", tmp_path / "finished"
    work = f"trap 'sleep 0.5; touch {finished}; exit 0' TERM; touch {ready}; while :; do sleep 0.1; done"
    process = start(web=SLEEPER, predict=shell(work))
    deadline = time.monotonic() + 60
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert finished.exists()
