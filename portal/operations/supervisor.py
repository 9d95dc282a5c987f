"""Run the processes of one machine: start them, print their output, restart those that end, stop all together."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from portal.operations.worker_watchdog import sign_of_life

STEADY = 20.0  # seconds; a process that ends sooner counts as a failed start
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
LOOK_EVERY = 0.2


class Child:
    """One command that is kept running."""

    def __init__(self, name: str, command: str, environment: Mapping[str, str], folder: Path, silence: float) -> None:
        self.name, self.silence = name, silence
        self._command, self._environment, self._folder = shlex.split(command), environment, folder
        self._process: subprocess.Popen[str] | None = None
        self._started_at = self._due_at = 0.0
        self._pause = SHORTEST_PAUSE

    def start(self) -> None:
        """Start it in its own process group, so that Ctrl-C reaches only the supervisor, which stops the others."""
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=dict(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._started_at = time.monotonic()
        threading.Thread(target=self._pass_on, args=[self._process], daemon=True).start()

    def poll(self) -> int | None:
        """Return the exit status if the process has ended since the last call; restart it when its pause is over."""
        if self._process is None:
            if time.monotonic() >= self._due_at:
                self.start()
            return None
        if self._is_silent(self._process):
            self.say(f"silent for {self.silence:.0f} s, so it is killed")
            self.kill()
        status = self._process.poll()
        if status is not None:
            self._end(self._process, status)
        return status

    @property
    def was_steady(self) -> bool:
        """Whether the last process ran long enough to rule out a failed start."""
        return self._pause == SHORTEST_PAUSE

    def ask_to_stop(self) -> None:
        if self._process:
            with suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def say(self, line: str) -> None:
        sys.stdout.write(f"{self.name:9}| {line}\n")
        sys.stdout.flush()

    def _end(self, process: "subprocess.Popen[str]", status: int) -> None:
        sign_of_life(process.pid).unlink(missing_ok=True)
        steady = time.monotonic() - self._started_at >= STEADY
        self._pause = SHORTEST_PAUSE if steady else min(2 * self._pause, LONGEST_PAUSE)
        self._due_at = time.monotonic() + self._pause
        self._process = None
        self.say(f"ended with status {status}; it is started again in {self._pause:.0f} s")

    def _is_silent(self, process: "subprocess.Popen[str]") -> bool:
        """Return whether a worker stopped touching its file; other processes have none."""
        try:
            touched = sign_of_life(process.pid).stat().st_mtime
        except FileNotFoundError:
            return False
        return time.time() - touched > self.silence

    def _pass_on(self, process: "subprocess.Popen[str]") -> None:
        for line in process.stdout or ():
            self.say(line.rstrip("\n"))


def run(commands: Mapping[str, str], *, vital: str, silence: float, grace: float, **options: Any) -> int:
    """Run the commands until a signal to stop; return 0, or the status of the `vital` one if it could not start.

    A worker that reports nothing for `silence` seconds is killed, and so is a process that has not ended `grace`
    seconds after it was asked to.
    """
    children = {name: Child(name, command, silence=silence, **options) for name, command in commands.items()}
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    for child in children.values():
        child.start()
    status = None
    while not stop.wait(LOOK_EVERY):
        for name, child in children.items():
            ended = child.poll()
            if ended is not None and name == vital and not child.was_steady:
                status = ended or 1
                stop.set()
    _stop(list(children.values()), grace)
    return status or 0


def _stop(children: list[Child], grace: float) -> None:
    """Ask all processes to stop and wait; kill those that are left, at once after a second Ctrl-C."""
    hurry = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: hurry.set())
    for child in children:
        child.ask_to_stop()
    deadline = time.monotonic() + grace
    while any(child.runs for child in children) and time.monotonic() < deadline and not hurry.wait(LOOK_EVERY):
        pass
    for child in children:
        child.kill()
