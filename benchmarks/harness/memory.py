"""Measure the memory of each kind of process over time."""

import threading
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

ROLES = {
    "gunicorn": "web",
    "-Q predict": "predict",
    "-Q default": "default",
    "-Q training": "training",
    " beat": "beat",
}
SERVERS = {"postgres": "postgres/postmaster.pid", "valkey": "valkey/valkey.pid"}
MB = 1e6


class Sample(NamedTuple):
    second: float
    megabytes: dict[str, float]  # by role


class MemoryMonitor(threading.Thread):
    """Measures the memory of all processes of an installation again and again, from a thread of its own.

    A role's memory is the sum of its processes' proportional set sizes: what several share counts once.
    """

    def __init__(self, stack: psutil.Process, home: Path, *, every: float) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self._stack, self._home, self._every = stack, home, every
        self._start, self._is_over = time.monotonic(), threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(self._every):
            weights = {role: sum(map(proportional_megabytes, family)) for role, family in self._families().items()}
            self.samples.append(Sample(time.monotonic() - self._start, weights))

    def stop(self) -> None:
        self._is_over.set()
        self.join()

    def thirds(self) -> dict[str, tuple[float, float]]:
        """Return each role's median memory in the first and in the last third of the time, in MB."""
        third = len(self.samples) // 3
        parts = self.samples[:third], self.samples[-third:]
        first, last = (
            {role: median(s.megabytes.get(role, 0.0) for s in part) for role in self.roles} for part in parts
        )
        return {role: (round(first[role], 1), round(last[role], 1)) for role in self.roles}

    @property
    def roles(self) -> list[str]:
        return sorted({role for sample in self.samples for role in sample.megabytes})

    def _families(self) -> dict[str, list[psutil.Process]]:
        families: dict[str, list[psutil.Process]] = {}
        with suppress(psutil.NoSuchProcess):
            for child in self._stack.children():
                with suppress(psutil.NoSuchProcess):
                    line = " ".join(child.cmdline())
                    role = next((role for mark, role in ROLES.items() if mark in line), None)
                    if role:
                        families.setdefault(role, []).extend([child, *child.children(recursive=True)])
        for role, file in SERVERS.items():
            with suppress(OSError, ValueError, IndexError, psutil.NoSuchProcess):
                server = psutil.Process(int((self._home / file).read_text().splitlines()[0]))
                families[role] = [server, *server.children(recursive=True)]
        return families


def proportional_megabytes(process: psutil.Process) -> float:
    """Return the proportional set size in MB without shared memory, 0 for a process that has ended.

    Shared memory has a fixed size: PostgreSQL's buffers fill up to it, and are no growth.
    """
    with suppress(OSError):
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
        kilobytes = {name: int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}
        return (kilobytes["Pss"] - kilobytes.get("Pss_Shmem", 0)) * 1024 / MB
    return 0.0
