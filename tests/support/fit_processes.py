"""Start fits in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start_fit(workdir: Path, *, processes: int = 1) -> "subprocess.Popen[bytes]":
    """Start `python -m training.fit`, by torchrun for several processes."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    with (workdir / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *launch, "-m", "training.fit", str(workdir)],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
