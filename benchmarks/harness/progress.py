"""Report a benchmark's progress on stderr."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def log_step(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def track_progress(things: Sequence[T], what: str) -> Iterator[T]:
    """Yield the things; show on stderr how many are done, how fast and how long the rest takes."""
    start = time.monotonic()
    for done, thing in enumerate(things, 1):
        yield thing
        spent = time.monotonic() - start
        left = spent / done * (len(things) - done)
        if sys.stderr.isatty() or done == len(things):
            line = f"\r{what}: {done} of {len(things)}, {done / spent:.1f}/s, {left:.0f} s left   "
            print(line, end="", file=sys.stderr, flush=True)
    print(file=sys.stderr, flush=True)
