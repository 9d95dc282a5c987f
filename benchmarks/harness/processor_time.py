"""Measure the processor time of processes, by role."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

import psutil

from benchmarks.harness.processes import process_tree

Roles = Mapping[str, Sequence[psutil.Process]]
STARTED = {  # a word of the command line of what `manage.py start` runs -> its role
    "gunicorn": "web",
    "predict": "predict worker",
    "default": "default workers",
    "training": "training workers",
    "beat": "beat",
}
EMBEDDED = {"postgres": "PostgreSQL", "valkey-server": "Valkey"}


class ProcessorSeconds(dict[str, float]):
    """Seconds of processor time that the processes of each role have used, with their children that have ended."""

    def __init__(self, roles: Roles) -> None:
        super().__init__({role: sum(map(_seconds, processes)) for role, processes in roles.items()})

    def since(self, before: "ProcessorSeconds") -> dict[str, float]:
        """Return the seconds that were used since an earlier measurement, by role."""
        return {role: seconds - before.get(role, 0.0) for role, seconds in self.items()}


def processes_by_role(start: psutil.Process) -> Roles:
    """Return the processes of a running Aisle by role, its embedded servers among them."""
    found: dict[str, list[psutil.Process]] = {"supervisor": [start]}
    for child in start.children():
        line = child.cmdline()
        role = next((role for word, role in STARTED.items() if any(word in part for part in line)), "others")
        found.setdefault(role, []).extend(process_tree(child))
    return found | embedded_servers()


def embedded_servers() -> dict[str, list[psutil.Process]]:
    """Return the embedded servers of AISLE_HOME."""
    found: dict[str, list[psutil.Process]] = {role: [] for role in EMBEDDED.values()}
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            line = process.cmdline()
            for word, role in EMBEDDED.items():
                if line and line[0].endswith(f"/{word}") and any(os.environ["AISLE_HOME"] in part for part in line):
                    found[role] += process_tree(process)
    return found


def _seconds(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0
