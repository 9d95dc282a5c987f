"""Count this process's cores, and run the threads that prepare inputs while engines compute."""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Return how many cores this process may use: its CPU affinity, or its container's quota if less."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = QUOTA.read_text().split()
        if quota != "max":
            count = min(count, math.ceil(int(quota) / int(period)))
    return max(count, 1)


@cache
def input_threads() -> ThreadPoolExecutor:
    """Return this process's threads for tokenizing and for decoding photos."""
    return ThreadPoolExecutor(usable_cores(), thread_name_prefix="inputs")
