"""Check that nothing is lost, doubled or refused while workers are killed and every server restarts under load.

Starts a whole Aisle of its own (`manage.py start --predict 2`) with embedded servers in a temporary folder and an S3
server in memory, measures what it can take, and lets sellers' programs upload at 80 % of that while workers die, Valkey
and PostgreSQL restart, the storage stops and versions are deployed. Then it counts. See benchmarks/README.md.
"""

import argparse
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.harness.command_line import Figures, Options, add_data_option, run_benchmark
from benchmarks.harness.items import Item, gather_items, shrink_photo
from benchmarks.harness.memory import MemoryMonitor
from benchmarks.harness.processes import wait_until
from benchmarks.harness.progress import log_step
from benchmarks.harness.stack import RunningStack, create_seller, running_stack, running_storage, set_up_home
from benchmarks.harness.svg_curves import draw_curves
from benchmarks.soak_disturbances import FULL, QUICK, Disturbances, Versions, Window, predict_workers
from benchmarks.soak_traffic import Ledger, Refusal, Sellers, generate_uploads

LOAD = 0.8  # of the throughput that was measured
CLIENTS = 24  # that upload one after the other while it is measured
PREDICT_WORKERS = 2  # one is killed again and again while another works
PHOTO_WIDTH = 800  # the S3 server keeps all photographs in memory
AFTERMATH = {"postgres": 5.0, "storage": 20.0}  # seconds after a window in which refusals still count as its own
GROWTH, SLACK_MB = 1.15, 30.0  # the last third's weight over the first third's, at most
SETTLING = 240.0  # seconds, at most, until all is predicted and archived

DOUBLED = """
CREATE TABLE soak_doubled (id uuid);
CREATE FUNCTION soak_note() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN INSERT INTO soak_doubled VALUES (OLD.id); RETURN NULL; END';
CREATE TRIGGER soak_doubled AFTER UPDATE ON classifier_prediction FOR EACH ROW
WHEN (OLD.state = 'done' AND (NEW.finished_at <> OLD.finished_at OR NEW.state <> 'done'
                              OR NEW.lease IS DISTINCT FROM OLD.lease))
EXECUTE FUNCTION soak_note();
"""


def measure_soak(options: Options) -> Figures:
    """Return what was lost, doubled and refused while processes were killed and servers restarted."""
    items, source = gather_items(options.data, 200)
    items = [Item(item.title, item.description, shrink_photo(item.photo, PHOTO_WIDTH)) for item in items]
    set_up_home()
    with running_storage() as storage, running_stack("--predict", str(PREDICT_WORKERS)) as running:
        try:
            figures, monitor, faults = run_soak(items, running, storage, quick=options.quick)
        finally:
            if options.log:
                options.log.write_bytes((Path(os.environ["AISLE_HOME"]) / "stack.log").read_bytes())
    if options.plot:
        options.plot.write_text(plot_memory(monitor))
        log_step(f"Wrote {options.plot}")
    return figures | {"items": source, "faults": faults, "passed": not faults}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --plot, --log and --data."""
    parser.add_argument("--plot", type=Path, help="write the memory of each kind of process to this SVG file")
    parser.add_argument("--log", type=Path, help="keep the log of all processes in this file")
    add_data_option(parser)


def run_soak(
    items: Sequence[Item], running: RunningStack, storage: Any, *, quick: bool
) -> tuple[dict[str, Any], MemoryMonitor, list[str]]:
    """Return the figures, the memory curves, and a sentence for each fault."""
    import django

    django.setup()
    from django.db import connection

    plan = QUICK if quick else FULL
    dice = random.Random(5)  # noqa: S311
    work = generate_uploads(items, dice)
    sellers = Sellers(running.port, create_seller("soak@shop.example")[1])
    watch_results()
    versions = Versions()

    log_step("Waiting for the models")
    wait_until(lambda: all_workers_live(running.process), "the models")
    sellers.upload_in_parallel(work, clients=4, seconds=1)
    wait_until_settled()
    seconds = 15 if quick else 60
    log_step(f"{CLIENTS} clients at once for {seconds} s: what it can take")
    before, start = len(sellers.ledger.accepted), time.monotonic()
    sellers.upload_in_parallel(work, clients=CLIENTS, seconds=seconds)
    wait_until_settled()
    per_second = (len(sellers.ledger.accepted) - before) / (time.monotonic() - start)
    sellers.ledger.waits.clear()

    log_step(f"{per_second:.1f} uploads/s predicted and archived; now {LOAD:.0%} of that for {plan.seconds:.0f} s")
    monitor = MemoryMonitor(running.process, Path(os.environ["AISLE_HOME"]), every=1 if quick else 5)
    disturbances = Disturbances(plan, running.process, storage, versions)
    monitor.start()
    disturbances.start()
    sellers.upload_at_rate(work, per_second=LOAD * per_second, seconds=plan.seconds, dice=dice)
    disturbances.join()
    monitor.stop()
    ended = time.monotonic()
    connection.close()
    left = wait_until_settled()
    ledger = sellers.ledger
    checks = count_faults(ledger, disturbances.windows, versions) | {
        "unarchived": left,
        "orphans": disturbances.orphans(),
    }
    figures = {
        "throughput_per_second": round(per_second, 1),
        "offered_per_second": round(LOAD * per_second, 1),
        "seconds": plan.seconds,
        "uploads": len(ledger.accepted),
        "interactive_p50_ms": round(1000 * float(np.percentile(ledger.waits, 50))) if ledger.waits else None,
        "interactive_p99_ms": round(1000 * float(np.percentile(ledger.waits, 99))) if ledger.waits else None,
        "settled_after_seconds": round(time.monotonic() - ended, 1),
        "troubles": dict(disturbances.done),
        "windows_seconds": [(window.what, round(window.ended - window.began, 1)) for window in disturbances.windows],
        **checks,
        "memory_mb": monitor.thirds(),
    }
    return figures, monitor, list_faults(figures, disturbances.failed)


def all_workers_live(stack: psutil.Process) -> bool:
    """Return whether every predict worker shows a sign of life, its models loaded."""
    from portal.operations.worker_watchdog import sign_of_life

    return all(sign_of_life(worker.pid).exists() for worker in predict_workers(stack))


def watch_results() -> None:
    """Let a trigger record every change of a result that was stored already."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(DOUBLED)


def wait_until_settled() -> int:
    """Wait until all is predicted and archived, for SETTLING at most; return what is left."""
    from django.db import connection

    from classifier.models import Prediction
    from feedback.models import Feedback

    deadline = time.monotonic() + SETTLING
    while left := Prediction.objects.unarchived().count() + Feedback.objects.unarchived().count():
        connection.close()  # the database may have restarted since
        if time.monotonic() > deadline:
            break
        time.sleep(0.3)
    return left


# The checks


def count_faults(ledger: Ledger, windows: Sequence[Window], versions: Versions) -> dict[str, Any]:
    """Return what was lost, doubled and refused."""
    from django.db import connection
    from django.db.models import Count, Q

    from classifier.models import Prediction
    from feedback.models import Feedback
    from portal.models import Product

    done = {str(pk) for pk in Prediction.objects.filter(state="done").values_list("pk", flat=True)}
    skus = Counter(Product.objects.values_list("sku", flat=True))
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM soak_doubled")
        (stored_twice,) = cursor.fetchone()
    answers = {str(pk): slug for pk, slug in Feedback.objects.values_list("prediction", "category__slug")}
    expected, found = archive_expected(ledger, answers), archive_found()
    inside, outside = sort_refusals(ledger.refusals, windows)
    answered_by = {
        str(version): Prediction.objects.filter(Q(text_version=version) | Q(image_version=version)).count()
        for version in versions.deployed
    }
    attempts = Prediction.objects.values_list("attempts").annotate(rows=Count("pk")).order_by("attempts")
    return {
        "lost": len(set(ledger.accepted.values()) - done) + len(ledger.given_up),
        "failed": Prediction.objects.filter(state="failed").count(),
        "doubled_products": sum(times - 1 for times in skus.values()),
        "unknown_products": len(set(skus) - set(ledger.accepted) - set(ledger.given_up)),
        "stored_twice": stored_twice,
        "feedback_lost": sum(answers.get(pk) != slug for pk, slug in ledger.judged.items()),
        "archive_missing": len(expected - found),
        "archive_surplus": len(found - expected),
        "refused_in_windows": dict(Counter(refusal.what for refusal in inside)),
        "refused_otherwise": dict(Counter(refusal.what for refusal in outside)),
        "attempts": dict(attempts),
        "answered_by_deployed": answered_by,
    }


def archive_expected(ledger: Ledger, answers: dict[str, str]) -> set[str]:
    """Return the names of all objects that the archive must hold, and no others."""
    names = set()
    for prediction in ledger.accepted.values():
        files = ["input.json", "text.json", "ensemble.json"]
        if prediction in ledger.photos:
            files += ["image.jpg", "image.json"]
        if prediction in answers:
            files.append("feedback.json")
        names |= {f"archive/{prediction[:2]}/{prediction}/{name}" for name in files}
    return names


def archive_found() -> set[str]:
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_S3_ENDPOINT_URL"], region_name="us-east-1")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="aisle", Prefix="archive/")
    return {row["Key"] for page in pages for row in page.get("Contents", [])}


def sort_refusals(refusals: Sequence[Refusal], windows: Sequence[Window]) -> tuple[list[Refusal], list[Refusal]]:
    """Return the refusals that the stated restarts explain, and the others.

    While PostgreSQL restarts any request may be refused for that reason; while the storage is away, any with a photo.
    Both must be a 503 with a sentence. A restart of Valkey, a killed worker and a deployment explain none.
    """
    inside: list[Refusal] = []
    outside: list[Refusal] = []
    for refusal in refusals:
        explained = refusal.is_plain and any(
            window.what in AFTERMATH
            and refusal.what == {"postgres": "503 database_down", "storage": "503 storage_down"}[window.what]
            and refusal.began < window.ended + AFTERMATH[window.what]
            and refusal.ended > window.began
            for window in windows
        )
        (inside if explained else outside).append(refusal)
    return inside, outside


def list_faults(figures: dict[str, Any], failed: BaseException | None) -> list[str]:
    """Return what is wrong, in words."""
    none_wanted = (
        "lost", "failed", "doubled_products", "unknown_products", "stored_twice", "feedback_lost", "unarchived",
        "archive_missing", "archive_surplus", "refused_otherwise", "orphans",
    )  # fmt: skip
    faults = [f"{name}: {figures[name]}" for name in none_wanted if figures[name]]
    faults += [f"{name} answered nothing" for name, rows in figures["answered_by_deployed"].items() if not rows]
    faults += [
        f"{role} grew from {first} to {last} MB"
        for role, (first, last) in figures["memory_mb"].items()
        if last > GROWTH * first + SLACK_MB
    ]
    if failed:
        faults.append(f"the plan broke off: {failed!r}")
    return faults


# The report


def plot_memory(monitor: MemoryMonitor) -> str:
    lines = [(f"{role} (MB)", [s.megabytes.get(role, 0.0) for s in monitor.samples]) for role in monitor.roles]
    return draw_curves(f"Memory by kind of process over {monitor.samples[-1].second:.0f} s", lines)


def print_report(figures: Figures) -> None:
    """Print one figure a line, then whether the run passed."""
    for name, value in figures.items():
        print(f"{name:24} {value}")
    print("Passed" if figures["passed"] else "FAILED: " + "; ".join(figures["faults"]))


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_soak, print_report=print_report, add_options=add_options,
        quick="3 minutes of load instead of 30",
    )  # fmt: skip
