"""The child process that fits a model, watched from here: its progress goes to the run's row, its end is judged."""

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from training.models import TrainingRun
from training.runs import tuning_storage

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
SAVE_SECONDS = 2.0
PATIENCE_SECONDS = 10.0
LOG_CHARACTERS = 60_000
CURVE_POINTS = 400
POINT = ("stage", "step", "loss", "validation_loss")


class Cancelled(Exception):
    """Somebody asked to stop the run."""


class LeaseLost(Exception):
    """Another worker took the run over: this one must not write to it any more."""


class FitFailed(Exception):
    """The model could not be fitted. `permanent`: trying again won't help."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


def renew_connection() -> None:
    """Let go of a database connection that is broken, so that the next query makes a new one."""
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


@contextmanager
def send_heartbeats(run: TrainingRun) -> Iterator[None]:
    """Say again and again that the run's worker lives, whatever it is busy with."""
    ended = threading.Event()

    def beat() -> None:
        try:
            while not ended.wait(settings.TRAINING_LEASE_SECONDS / 4):
                try:
                    renew_connection()
                    TrainingRun.objects.leased_as(run).update(heartbeat_at=Now())
                except DatabaseError as error:
                    log.warning("The heartbeat of training run %s was not written: %s", run.pk, type(error).__name__)
        finally:
            connection.close()

    thread = threading.Thread(target=beat, name=f"heartbeat of {run.pk}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass
class RunMonitor:
    """What is known of the child's work, and the run's row to tell it to."""

    run: TrainingRun
    folder: Path
    progress: dict[str, Any] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None
    said: float = 0.0

    def tell(self) -> None:
        """Write to the row. Raises LeaseLost when it isn't ours any more, Cancelled when the run is to stop."""
        self.said = time.monotonic()
        held = TrainingRun.objects.leased_as(self.run)
        written = held.update(
            heartbeat_at=Now(),
            curve=self.curve,
            log=self.log(),
            **{name: self.progress.get(name) or 0 for name in ("step", "total")},
            stage=str(self.progress.get("stage", ""))[:60],
            loss=self.progress.get("loss"),
            rate=self.progress.get("rate"),
            eta_seconds=self.progress.get("eta"),
        )
        if not written:
            raise LeaseLost
        if TrainingRun.objects.filter(pk=self.run.pk, is_cancelled=True).exists():
            raise Cancelled

    def count(self, done: int, total: int) -> None:
        """Say how far a stage of our own is. Raises as `tell`."""
        self.progress |= {"step": done, "total": total}
        if time.monotonic() - self.said > SAVE_SECONDS:
            self.tell()

    def stage(self, name: str, step: int = 0, total: int = 0) -> None:
        """Begin or go on with a stage of our own. Raises as `tell`."""
        self.progress = {"stage": name, "step": step, "total": total}
        self.tell()

    def say(self, line: str) -> None:
        """Add a line to the run's log."""
        self.lines.append(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}")

    def log(self) -> str:
        return "\n".join(self.lines)[-LOG_CHARACTERS:]

    def read(self, line: str) -> None:
        """Take in one line of progress.jsonl."""
        try:
            content = json.loads(line)
        except ValueError:
            return
        if "error" in content:
            self.error = content
            self.say(str(content["error"]))
        elif "log" in content:
            self.say(str(content["log"]))
        else:
            self.progress = content
            self._add_to_curve(content)

    def _add_to_curve(self, content: dict[str, Any]) -> None:
        if content.get("loss") is None and content.get("validation_loss") is None:
            return
        point: dict[str, Any] = {
            name: content[name] for name in ("stage", "step", "loss", "validation_loss") if name in content
        }
        self.curve.append(point)
        if len(self.curve) > CURVE_POINTS:
            # Half the points say the same; what was measured on the validation part is kept.
            self.curve = [p for i, p in enumerate(self.curve) if i % 2 or "validation_loss" in p][-CURVE_POINTS:]


def run_fit_process(watch: RunMonitor) -> None:
    """Run `python -m training.fit` on the watched run's folder until it ends.

    Raises FitFailed, Cancelled or LeaseLost; the child and its children are gone then.
    """
    folder = watch.folder
    with _only_one(folder) as lock, (folder / "output.txt").open("ab") as output:
        child = subprocess.Popen(
            fit_command(watch.run, folder),
            cwd=settings.BASE_DIR,
            env=child_environment(watch.run),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
        )
        (folder / "pid").write_text(str(child.pid))
        try:
            _follow(child, watch)
        finally:
            _stop(child)
    if child.returncode == 0:
        return
    if watch.error:
        raise FitFailed(str(watch.error["error"]), permanent=bool(watch.error.get("permanent", True)))
    watch.say(_tail(folder / "output.txt"))
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise FitFailed(
            _("The training process was killed (%(signal)s). If nobody did it, the machine was out of memory.")
            % {"signal": name},
            permanent=False,
        )
    raise FitFailed(_("The training process ended by itself; its log says more."), permanent=False)


def child_environment(run: TrainingRun) -> dict[str, str]:
    """Return the environment of a process that fits a model; it ends when this process is gone.

    Threads that wait for each other by spinning make torch ten times slower as soon as another process is busy too.
    """
    own = {"AISLE_RUNNER_PID": str(os.getpid()), "PYTHONUNBUFFERED": "1"}
    if run.trials:
        own[tuning_storage.VARIABLE] = tuning_storage.storage_url()
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **own}


def fit_command(run: TrainingRun, folder: Path, *, node_rank: int = 0) -> list[str]:
    """Return the command line that fits the model in `folder`, by torchrun where it takes several processes."""
    module = ["-m", "training.fit", str(folder)]
    if run.processes == run.machines == 1:
        return [sys.executable, *module]
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={run.processes}"]
    if run.machines == 1:
        return [*launch, "--standalone", *module]
    host, _colon, port = run.master.rpartition(":")
    launch += [f"--nnodes={run.machines}", f"--node-rank={node_rank}", f"--master-addr={host}", f"--master-port={port}"]
    return [*launch, *module]


def _follow(child: "subprocess.Popen[bytes]", watch: RunMonitor) -> None:
    path = watch.folder / "progress.jsonl"
    with _tailed(path) as lines:
        while child.poll() is None:
            time.sleep(LOOK_SECONDS)
            for line in lines():
                watch.read(line)
            if time.monotonic() - watch.said > SAVE_SECONDS:
                watch.tell()
        for line in lines():
            watch.read(line)
    watch.tell()


@contextmanager
def _tailed(path: Path) -> Iterator[Callable[[], list[str]]]:
    """Yield a function that returns the whole lines that were added since it was last called."""
    path.touch()
    with path.open(encoding="utf-8") as file:
        file.seek(0, os.SEEK_END)
        yield lambda: list(_whole_lines(file))


def _whole_lines(file: TextIO) -> Iterator[str]:
    while True:
        place = file.tell()
        line = file.readline()
        if not line.endswith("\n"):
            file.seek(place)
            return
        yield line


@contextmanager
def _only_one(folder: Path) -> Iterator[int]:
    """Hold the folder's lock, which the child inherits: one whose runner was killed goes within seconds."""
    with (folder / "lock").open("w") as lock:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    raise FitFailed(_("Another process on this machine works on this run."), permanent=False) from None
                time.sleep(LOOK_SECONDS)
        yield lock.fileno()


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """End the child and whatever it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE_SECONDS)


def _tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-4_000:] if path.is_file() else ""
