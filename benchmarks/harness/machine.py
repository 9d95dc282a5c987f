"""Describe the machine that a figure was measured on."""

import os
import sys
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, device and versions."""
    import torch

    return {
        "cpu": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "python": sys.version.split()[0],
    }


def processor_name() -> str:
    """Return the processor's model name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
