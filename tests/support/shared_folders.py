"""Share between the processes of a test run what takes long to make."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


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


def share_networks(home: Path) -> Path:
    """Let a home keep converted networks in a folder of this test run: converting one takes seconds."""
    networks = Path(os.environ["TEST_RUN_FOLDER"]) / "networks"
    networks.mkdir(exist_ok=True)
    (home / "models").mkdir(parents=True, exist_ok=True)
    (home / "models" / "engines").symlink_to(networks)
    return networks
