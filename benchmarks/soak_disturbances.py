"""Disturb a running Aisle: kill workers, restart servers, deploy versions."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.harness.processes import ROOT, wait_until
from benchmarks.harness.progress import log_step

if TYPE_CHECKING:
    from classifier.models import ModelVersion

KINDS = ("worker and pool", "worker", "pool")  # which processes of a predict worker are killed, in turns


@dataclass(frozen=True)
class Plan:
    """How long it lasts, and at which seconds what happens."""

    seconds: float
    kills: Sequence[float]
    valkey: Sequence[float]
    postgres: Sequence[float]
    storage: tuple[float, float]  # stops, answers again
    deploys: Sequence[float]


FULL = Plan(
    seconds=1800,
    kills=range(45, 1800, 60),
    valkey=(180, 790, 1520),
    postgres=(430, 1040),
    storage=(1225, 1345),
    deploys=range(300, 1800, 300),
)
QUICK = Plan(seconds=180, kills=range(20, 150, 30), valkey=(35,), postgres=(65,), storage=(95, 110), deploys=(125,))


@dataclass(frozen=True)
class Window:
    """When something was away, in seconds of time.monotonic()."""

    what: str
    began: float
    ended: float


class Disturbances(threading.Thread):
    """Carries out a plan; `windows` records what was away when."""

    def __init__(self, plan: Plan, stack: psutil.Process, storage: psutil.Process, versions: "Versions") -> None:
        super().__init__(daemon=True)
        self.windows: list[Window] = []
        self.done: Counter[str] = Counter()
        self.failed: BaseException | None = None
        self._stack, self._storage, self._versions = stack, storage, versions
        self._kinds, self._dice = itertools.cycle(KINDS), random.Random(4)  # noqa: S311
        self._storage_stopped = 0.0
        self._left_alone: list[psutil.Process] = []
        actions: list[tuple[float, Callable[[], None]]] = [
            *((second, self._kill_worker) for second in plan.kills),
            *((second, lambda: self._restart("valkey")) for second in plan.valkey),
            *((second, lambda: self._restart("postgres")) for second in plan.postgres),
            (plan.storage[0], self._stop_storage),
            (plan.storage[1], self._resume_storage),
            *((second, self._deploy) for second in plan.deploys),
        ]
        self._actions = sorted(actions, key=lambda action: action[0])

    def run(self) -> None:
        start = time.monotonic()
        try:
            for second, action in self._actions:
                time.sleep(max(start + second - time.monotonic(), 0))
                action()
        except BaseException as error:  # noqa: BLE001 - the soak fails with it
            self.failed = error
        finally:
            self._storage.send_signal(signal.SIGCONT)

    def orphans(self) -> int:
        """Return how many pools outlive their worker."""
        return sum(process.is_running() for process in self._left_alone)

    def _kill_worker(self) -> None:
        kind = next(self._kinds)
        wait_until(lambda: bool(predict_workers(self._stack)), "another predict worker")
        worker = self._dice.choice(predict_workers(self._stack))
        pool = worker.children(recursive=True)
        victims = {"worker and pool": [*pool, worker], "worker": [worker], "pool": pool}[kind]
        self._left_alone += pool if kind == "worker" else []
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        self._note(f"killed: {kind}")

    def _restart(self, server: str) -> None:
        with self._away(server):
            code = f"from portal.operations.embedded_services import *; stop_{server}(); start_{server}()"
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
        self._note(f"{server} restarted")

    def _stop_storage(self) -> None:
        self._storage_stopped = time.monotonic()
        self._storage.suspend()
        self._note("storage stopped")

    def _resume_storage(self) -> None:
        self._storage.resume()
        self.windows.append(Window("storage", self._storage_stopped, time.monotonic()))

    def _deploy(self) -> None:
        self._note(f"deployed: {self._versions.deploy_next()}")

    @contextmanager
    def _away(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.windows.append(Window(what, began, time.monotonic()))

    def _note(self, what: str) -> None:
        self.done[what] += 1
        log_step(what.capitalize())


def predict_workers(stack: psutil.Process) -> list[psutil.Process]:
    """Return the main processes of the predict workers that `manage.py start` runs."""
    return [child for child in stack.children() if "-Q predict" in " ".join(child.cmdline())]


class Versions:
    """The starters, and a copy of each that differs by one line of its card: they are deployed in turns."""

    def __init__(self) -> None:
        from classifier.models import Modality

        pairs = [(register_copy(modality), live_starter(modality)) for modality in Modality.values]
        self._next = itertools.cycle([version for column in zip(*pairs, strict=True) for version in column])
        self.deployed: list[ModelVersion] = []

    def deploy_next(self) -> "ModelVersion":
        """Deploy the next version in turn."""
        from django.db import connection

        from classifier.registry import deployments

        version: ModelVersion = next(self._next)
        connection.close()  # the database may have restarted
        deployments.deploy_version(version)
        connection.close()
        self.deployed.append(version)
        return version


def live_starter(modality: str) -> "ModelVersion":
    """Return the only live version of a modality."""
    from classifier.registry import traffic

    (variant,) = traffic.live_variants(modality)
    return variant.version


def register_copy(modality: str) -> "ModelVersion":
    """Register the starter again under another checksum, with the same weights."""
    from classifier.ml import artifact
    from classifier.registry import versions
    from classifier.services import STARTER

    original = live_starter(modality)
    folder = Path(os.environ["AISLE_HOME"]) / f"copy-{modality}"
    shutil.copytree(STARTER / modality, folder)
    (folder / artifact.MANIFEST).unlink()
    card = folder / artifact.CARD
    card.write_text(card.read_text() + "\nThe same weights once more.\n")
    artifact.seal_artifact(folder)
    version = versions.register_version(folder, name="copy")
    version.engines = original.engines
    version.save(update_fields=["engines"])
    return version
