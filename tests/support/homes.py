"""Share prepared homes, and other folders that take long to make, between the processes of a test run."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from benchmarks.harness.processes import ROOT


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder of this test run; `make` fills it in the process that needs it first."""
    run = Path(os.environ["TEST_RUN_FOLDER"])
    folder = run / name
    # The folder appears by a rename when it is whole: a try that failed leaves nothing that another takes for it.
    with FileLock(run / f"{name}.lock"):
        if not folder.exists():
            making = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=run))
            make(making)
            making.rename(folder)
    return folder


def prepare_home(home: Path) -> None:
    """Make a home whose database is migrated and holds the categories, roles and starter models; its servers stop."""
    environment = {**os.environ, "AISLE_HOME": str(home)}
    command = [sys.executable, "manage.py", "prepare"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


def copy_home(prepared: Path, home: Path) -> Path:
    """Copy a home whose servers don't run."""
    for path in prepared.iterdir():
        if path.name == "static":
            # No process writes into these files: links are enough, and much faster.
            shutil.copytree(path, home / path.name, copy_function=os.link)
        else:
            # PostgreSQL's files keep their owner, whom pgserver makes for a database that root starts.
            subprocess.run(["cp", "-a", str(path), str(home)], check=True)
    return home


def share_networks(home: Path) -> Path:
    """Let a home keep converted networks in a folder of this test run: converting one takes seconds."""
    networks = Path(os.environ["TEST_RUN_FOLDER"]) / "networks"
    networks.mkdir(exist_ok=True)
    (home / "models").mkdir(parents=True, exist_ok=True)
    (home / "models" / "engines").symlink_to(networks)
    return networks
