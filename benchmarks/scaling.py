"""Simulate a campaign day by the autoscaler's rules: how long sellers wait, and how many workers run.

Replays arrivals that grow twentyfold within minutes, second by second, against what deploy/kubernetes asks of KEDA,
with the service times and the start-up of this machine's workers, measured first. See benchmarks/README.md.
"""

import argparse
import math
import random
import statistics
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.items import PRODUCTS
from benchmarks.harness.processes import ROOT, wait_until
from benchmarks.harness.progress import log_step
from benchmarks.harness.stack import prepare_database, set_up_home
from benchmarks.harness.svg_curves import draw_curves

HOUR = 3600
HPA_SYNC = 15  # seconds between two looks of Kubernetes' autoscaler
LEAD = 2  # seconds until a pod is scheduled, its image on the node
CAMPAIGN = 20  # times the usual arrivals
RISE, PEAK, FALL = 300, 1800, 900  # seconds


@dataclass(frozen=True)
class Policy:
    """What a ScaledObject says; seconds, but for the target: queued predictions per worker."""

    target: int = 10
    polling: int = 10
    down_window: int = 300
    least: int = 1
    most: int = 2


@dataclass(frozen=True)
class Worker:
    """A worker as measured: a batch takes `fixed` seconds and `each` per row; a new one works after `start`."""

    fixed: float
    each: float
    start: float
    batch: int = 32

    @property
    def per_second(self) -> float:
        return self.batch / (self.fixed + self.batch * self.each)


@dataclass
class Day:
    """What happened: a point a minute, and every prediction's wait."""

    waits: list[float]
    replicas: list[int]
    ages: list[float]
    worker_hours: float
    changes: int


def measure_scaling(options: Options) -> Figures:
    """Return how long predictions wait and how many workers run, by scaling policy."""
    worker = Worker(*options.worker) if options.worker else measure_worker(tries=1 if options.quick else 5)
    usual = options.share * worker.per_second
    hours = 3 if options.quick else 24
    rows = []
    for name, policy in policies().items():
        day = replay_day(policy, worker, usual=usual, seconds=hours * HOUR)
        rows.append({"policy": name} | day_figures(day))
        if options.svg:
            draw_day(options.svg, name, day)
    return {"worker": asdict(worker), "usual": usual, "policies": rows}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --svg, --share and --worker."""
    parser.add_argument("--svg", type=Path, help="write charts of queue age and workers to this folder")
    parser.add_argument("--share", type=float, default=0.4, help="usual load, of one worker's speed (default: 0.4)")
    parser.add_argument("--worker", type=float, nargs=3, metavar=("FIXED", "EACH", "START"), help="measure nothing")


def policies() -> dict[str, Policy]:
    """Return the rules that are compared: the shipped ones, and each figure changed alone."""
    wide = Policy(most=12)
    return {
        "prototype: at most 2": Policy(),
        "at most 4": Policy(most=4),
        "at most 12": wide,
        "12, target 5": replace(wide, target=5),
        "12, target 30": replace(wide, target=30),
        "12, target 100": replace(wide, target=100),
        "12, polling 5 s": replace(wide, polling=5),
        "12, polling 30 s": replace(wide, polling=30),
        "12, down after 60 s": replace(wide, down_window=60),
        "12, down after 900 s": replace(wide, down_window=900),
        "12, at least 2": replace(wide, least=2),
    }


# The measurements


def measure_worker(tries: int) -> Worker:
    """Return this machine's worker: the models over batches of 1 and of 32, and a worker process until it is ready."""
    set_up_home()
    prepare_database()
    from PIL import Image

    from classifier.ml.classifier import ProductInput
    from classifier.serving.batch import predict_many_now

    picture = Image.new("RGB", (340, 256), (190, 40, 40))
    products = [ProductInput(title, description, picture) for title, description in PRODUCTS[:32]]

    def seconds(rows: int) -> float:
        start = time.perf_counter()
        predict_many_now(products[:rows])
        return time.perf_counter() - start

    log_step("Measuring batches of 1 and of 32")
    seconds(32)
    one, many = (statistics.median(seconds(rows) for _ in range(2 * tries + 1)) for rows in (1, 32))
    each = max((many - one) / 31, 1e-4)
    log_step("Measuring a worker's start")
    start = statistics.median(time_worker_start() for _ in range(tries))
    return Worker(fixed=round(max(one - each, 0.0), 4), each=round(each, 5), start=round(start + LEAD, 1))


def time_worker_start() -> float:
    """Return the seconds until a predict worker that is started now is ready, its models loaded."""
    from portal.celery import app

    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "portal",
        "worker",
        "-Q",
        "predict",
        "-c",
        "1",
        "-n",
        "start@bench",
    ]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: bool(app.control.inspect(["start@bench"], timeout=0.5).ping()), "the worker")
        return time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()


# The simulation: one second a step


def replay_day(policy: Policy, worker: Worker, *, usual: float, seconds: int) -> Day:
    dice = random.Random(1)  # noqa: S311 - a simulation that gives the same day each time
    queue: deque[int] = deque()
    free_at = [0.0] * policy.least  # when each worker has done its batch
    coming: list[float] = []  # when each worker that was asked for begins
    wishes: deque[tuple[int, int]] = deque()
    day = Day([], [], [], 0.0, 0)
    seen = 0
    for now in range(seconds):
        queue.extend([now] * poisson(dice, usual * rate(now, seconds)))
        free_at += [at for at in coming if at <= now]
        coming = [at for at in coming if at > now]
        work(queue, free_at, worker, now, day.waits)
        if now % policy.polling == 0:
            seen = len(queue)
        if now % HPA_SYNC == 0:
            wanted = min(max(math.ceil(seen / policy.target), policy.least), policy.most)
            day.changes += scale(wanted, policy, worker, now, free_at, coming, wishes)
        day.worker_hours += (len(free_at) + len(coming)) / HOUR
        if now % 60 == 0:
            day.replicas.append(len(free_at))
            day.ages.append(now - queue[0] if queue else 0)
    day.waits += [seconds - came for came in queue]
    return day


def rate(now: int, seconds: int) -> float:
    """Return how many times the usual arrivals come now: a quiet night, a campaign at noon."""
    usual = 1 + 0.5 * math.sin(2 * math.pi * (now / seconds - 0.25))
    since = now - seconds // 2
    if not 0 <= since < RISE + PEAK + FALL:
        return usual
    if since < RISE:
        return 1 + (CAMPAIGN - 1) * since / RISE
    return CAMPAIGN if since < RISE + PEAK else 1 + (CAMPAIGN - 1) * (RISE + PEAK + FALL - since) / FALL


def poisson(dice: random.Random, mean: float) -> int:
    limit, product, count = math.exp(-min(mean, 500)), dice.random(), 0
    while product > limit:
        product *= dice.random()
        count += 1
    return count


def work(queue: deque[int], free_at: list[float], worker: Worker, now: int, waits: list[float]) -> None:
    """Let every free worker take batches until the second is over."""
    for i, at in enumerate(free_at):
        at = max(at, float(now))
        while queue and at < now + 1:
            batch = [queue.popleft() for _ in range(min(worker.batch, len(queue)))]
            at += worker.fixed + worker.each * len(batch)
            waits += [at - came for came in batch]
        free_at[i] = at


def scale(
    wanted: int,
    policy: Policy,
    worker: Worker,
    now: int,
    free_at: list[float],
    coming: list[float],
    wishes: deque[tuple[int, int]],
) -> int:
    """Do what Kubernetes' autoscaler does: up at once, at most doubled or four more; down after the window, by half."""
    wishes.append((now, wanted))
    while wishes[0][0] < now - policy.down_window:
        wishes.popleft()
    there = len(free_at) + len(coming)
    if wanted > there:
        more = min(wanted - there, max(there, 4))
        coming += [now + worker.start] * more
        return 1
    floor = max(wish for _, wish in wishes)
    if floor < there and now % 60 == 0 and free_at:
        del free_at[max(len(free_at) - min(there - floor, math.ceil(there / 2)), 1) :]
        return 1
    return 0


# The report


def day_figures(day: Day) -> dict[str, Any]:
    waits = sorted(day.waits)

    def at(share: float) -> float:
        return round(waits[min(int(share * len(waits)), len(waits) - 1)], 1)

    return {
        "predictions": len(waits),
        "p50_s": at(0.5),
        "p95_s": at(0.95),
        "p99_s": at(0.99),
        "longest_s": round(waits[-1], 1),
        "most_workers": max(day.replicas),
        "worker_hours": round(day.worker_hours, 1),
        "changes": day.changes,
    }


def print_report(figures: Figures) -> None:
    """Print a row for each policy."""
    worker = Worker(**figures["worker"])
    print(
        f"A worker: {worker.fixed * 1000:.0f} ms a batch and {worker.each * 1000:.1f} ms a row, so "
        f"{worker.per_second:.1f}/s in batches of {worker.batch}; {worker.start:.0f} s to start.\n"
        f"Usually {figures['usual']:.1f} predictions/s arrive, in the campaign {CAMPAIGN} times as many.\n"
    )
    rows = figures["policies"]
    names = [name for name in rows[0] if name != "policy"]
    print(f"{'':24}" + "".join(f"{name:>14}" for name in names))
    for row in rows:
        print(f"{row['policy']:24}" + "".join(f"{row[name]:>14}" for name in names))


def draw_day(folder: Path, name: str, day: Day) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"scaling-{''.join(c if c.isalnum() else '-' for c in name)}.svg"
    file.write_text(
        draw_curves(name, [("age of the oldest (s)", day.ages), ("workers", [float(n) for n in day.replicas])])
    )
    log_step(f"Wrote {file}")


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_scaling, print_report=print_report, add_options=add_options,
        quick="three hours instead of a day, one try per measurement",
    )  # fmt: skip
