"""Fit a model in a child process, copy its progress to the run's row, and turn its end into a result."""

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

from training.fit.stage_codes import RunStage
from training.models import TrainingRun
from training.runs import tuning_storage

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
SAVE_SECONDS = 2.0
STOP_SECONDS = 10.0
MAX_LOG_CHARACTERS = 60_000
MAX_CURVE_POINTS = 400
POINT_FIELDS = ("stage", "step", "loss", "validation_loss")


class Cancelled(Exception):
    """A person cancelled the run."""


class LeaseLost(Exception):
    """Another worker claimed the run: this one must no longer write to it."""


class FitFailed(Exception):
    """The model could not be fitted. `permanent`: a second try won't help."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


def renew_connection() -> None:
    """Close a broken database connection, so that the next query opens a new one."""
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


@contextmanager
def send_heartbeats(run: TrainingRun) -> Iterator[None]:
    """Write the run's heartbeat from a thread during the block, also while the worker is busy."""
    ended = threading.Event()

    def write_heartbeats() -> None:
        try:
            # Three heartbeats may be lost before another worker claims the run.
            while not ended.wait(settings.TRAINING_LEASE_SECONDS / 4):
                try:
                    renew_connection()
                    TrainingRun.objects.leased_as(run).update(heartbeat_at=Now())
                except DatabaseError as error:
                    log.warning("The heartbeat of training run %s was not written: %s", run.pk, type(error).__name__)
        finally:
            # Django closes connections of requests and tasks, but not of threads.
            connection.close()

    thread = threading.Thread(target=write_heartbeats, name=f"heartbeat of {run.pk}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass
class RunMonitor:
    """The progress, log and loss curve of a run, saved to its row at most every two seconds."""

    run: TrainingRun
    folder: Path
    progress: dict[str, Any] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None
    saved_at: float = 0.0

    def save(self) -> None:
        """Write to the row. Raises LeaseLost when another worker has it, Cancelled when the run was cancelled."""
        self.saved_at = time.monotonic()
        own_row = TrainingRun.objects.leased_as(self.run)
        written = own_row.update(
            heartbeat_at=Now(),
            curve=self.curve,
            log=self.log_text(),
            step=self.progress.get("step") or 0,
            total=self.progress.get("total") or 0,
            stage=str(self.progress.get("stage", ""))[:60],
            loss=self.progress.get("loss"),
            rate=self.progress.get("rate"),
            eta_seconds=self.progress.get("eta"),
        )
        if not written:
            raise LeaseLost
        # Read after the lease was checked: a cancelled run that another worker has is that worker's to end.
        if TrainingRun.objects.filter(pk=self.run.pk, is_cancelled=True).exists():
            raise Cancelled

    def report_progress(self, done: int, total: int) -> None:
        """Report how far a stage of this process is. Raises as `save`."""
        self.progress |= {"step": done, "total": total}
        if time.monotonic() - self.saved_at > SAVE_SECONDS:
            self.save()

    def progress_counter(self, total: int) -> Callable[[int], None]:
        """Return a function that counts further rows of the present stage. It raises as `save`."""
        return lambda rows: self.report_progress(self.progress["step"] + rows, total)

    def start_stage(self, stage: RunStage, step: int = 0, total: int = 0) -> None:
        """Begin a stage of this process. Raises as `save`."""
        self.progress = {"stage": stage, "step": step, "total": total}
        self.save()

    def log_line(self, line: str) -> None:
        """Add a line to the run's log."""
        self.lines.append(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}")

    def log_text(self) -> str:
        """Return the end of the log, as much as the row keeps."""
        return "\n".join(self.lines)[-MAX_LOG_CHARACTERS:]

    def read_progress_line(self, line: str) -> None:
        """Read one line of the child's progress.jsonl; an unreadable one is skipped."""
        try:
            content = json.loads(line)
        except ValueError:
            return
        if "error" in content:
            self.error = content
            self.log_line(str(content["error"]))
        elif "log" in content:
            self.log_line(str(content["log"]))
        else:
            self.progress = content
            self._add_to_curve(content)

    def _add_to_curve(self, content: dict[str, Any]) -> None:
        if content.get("loss") is None and content.get("validation_loss") is None:
            return
        self.curve.append({name: content[name] for name in POINT_FIELDS if name in content})
        if len(self.curve) > MAX_CURVE_POINTS:
            self._thin_curve()

    def _thin_curve(self) -> None:
        """Drop every second point but those of the validation split, which are few."""
        kept = []
        for number, point in enumerate(self.curve):
            if number % 2 or "validation_loss" in point:
                kept.append(point)
        self.curve = kept[-MAX_CURVE_POINTS:]


def run_fit_process(monitor: RunMonitor) -> None:
    """Run `python -m training.fit` on the run's folder until it ends.

    Raises FitFailed, Cancelled or LeaseLost; the child and its children are gone then.
    """
    folder = monitor.folder
    with _lock_folder(folder) as lock, (folder / "output.txt").open("ab") as output:
        child = subprocess.Popen(
            fit_command(monitor.run, folder),
            cwd=settings.BASE_DIR,
            env=child_environment(monitor.run),
            stdout=output,
            stderr=subprocess.STDOUT,
            # A process group of its own, so that torchrun's and the loader's processes end with it.
            start_new_session=True,
            pass_fds=(lock,),
        )
        (folder / "pid").write_text(str(child.pid))
        # Whatever ends the following, also Cancelled and LeaseLost, must not leave the child running.
        try:
            _follow_progress(child, monitor)
        finally:
            _stop_process_group(child)
    if child.returncode == 0:
        return
    if monitor.error:
        raise FitFailed(str(monitor.error["error"]), permanent=bool(monitor.error.get("permanent", True)))
    monitor.log_line(_tail(folder / "output.txt"))
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise FitFailed(
            _("The training process was killed (%(signal)s). If no person did it, the machine was out of memory.")
            % {"signal": name},
            permanent=False,
        )
    raise FitFailed(_("The training process ended without a result; see its log."), permanent=False)


def child_environment(run: TrainingRun) -> dict[str, str]:
    """Return the environment of a process that fits a model; it ends when this process is gone.

    Threads that spin while they wait make torch ten times slower as soon as another process is busy.
    """
    own = {"AISLE_RUNNER_PID": str(os.getpid()), "PYTHONUNBUFFERED": "1"}
    if run.trials:
        own[tuning_storage.VARIABLE] = tuning_storage.storage_url()
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **own}


def fit_command(run: TrainingRun, folder: Path, *, node_rank: int = 0) -> list[str]:
    """Return the command line that fits the model in `folder`, by torchrun for several processes."""
    module = ["-m", "training.fit", str(folder)]
    if run.processes == run.machines == 1:
        return [sys.executable, *module]
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={run.processes}"]
    if run.machines == 1:
        return [*launch, "--standalone", *module]
    host, _colon, port = run.master.rpartition(":")
    launch += [f"--nnodes={run.machines}", f"--node-rank={node_rank}", f"--master-addr={host}", f"--master-port={port}"]
    return [*launch, *module]


def _follow_progress(child: "subprocess.Popen[bytes]", monitor: RunMonitor) -> None:
    path = monitor.folder / "progress.jsonl"
    with _open_tail(path) as new_lines:
        while child.poll() is None:
            time.sleep(POLL_SECONDS)
            for line in new_lines():
                monitor.read_progress_line(line)
            if time.monotonic() - monitor.saved_at > SAVE_SECONDS:
                monitor.save()
        for line in new_lines():
            monitor.read_progress_line(line)
    monitor.save()


@contextmanager
def _open_tail(path: Path) -> Iterator[Callable[[], list[str]]]:
    """Yield a function that returns the whole lines that were added since it was last called."""
    # Lines of an earlier attempt are skipped.
    path.touch()
    with path.open(encoding="utf-8") as file:
        file.seek(0, os.SEEK_END)
        yield lambda: list(_whole_lines(file))


def _whole_lines(file: TextIO) -> Iterator[str]:
    while True:
        place = file.tell()
        line = file.readline()
        # The child may be in the middle of a line: it is read again when it is whole.
        if not line.endswith("\n"):
            file.seek(place)
            return
        yield line


@contextmanager
def _lock_folder(folder: Path) -> Iterator[int]:
    """Hold the folder's lock.

    The child inherits it, so a child that outlives its killed parent for some seconds keeps others away.
    """
    with (folder / "lock").open("w") as lock:
        until = time.monotonic() + STOP_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    raise FitFailed(
                        _("Another process on this machine is working on this run."), permanent=False
                    ) from None
                time.sleep(POLL_SECONDS)
        yield lock.fileno()


def _stop_process_group(child: "subprocess.Popen[bytes]") -> None:
    """End the child and the processes that it started."""
    # Also when the child has ended by itself: its own children may live on.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(STOP_SECONDS)


def _tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-4_000:] if path.is_file() else ""
