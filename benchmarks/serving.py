"""Measure how fast Aisle answers: one seller on an idle system, a full queue beside bare loops, two workers beside one.

Starts a whole Aisle of its own (`manage.py start`) with embedded servers in a temporary folder, asks it over HTTP,
and stops it; then workers alone, each on a core of its own. See benchmarks/README.md.
"""

import argparse
import http.client
import json
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import cycle, islice
from typing import Any

import numpy as np

from benchmarks.bare_models import PAUSE, BareModels, EagerModels, StoredItem, time_side_by_side
from benchmarks.harness.command_line import Figures, Options, add_found_data_option, run_benchmark
from benchmarks.harness.items import Item, gather_items
from benchmarks.harness.multipart import multipart_body
from benchmarks.harness.processes import PATIENCE, wait_until
from benchmarks.harness.progress import log_step, track_progress
from benchmarks.harness.report import print_rows
from benchmarks.harness.stack import create_seller, running_stack, running_workers, set_up_home, wait_for_archive


def measure_serving(options: Options) -> Figures:
    """Return how fast Aisle answers one seller, a full queue, and with two workers."""
    rows = options.rows or (100 if options.quick else 2_000)
    samples, rounds, bulk = (15, 2, 1_000) if options.quick else (100, 3, 10_000)
    items, source = gather_items(options.data, rows)
    set_up_home()
    with running_stack() as running:
        figures, queue = measure_stack(items, running.port, samples=samples, rounds=rounds, bulk=bulk)
    figures |= measure_workers(queue, rounds=rounds)
    return figures | {"items": source, "rows": len(items)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --rows and --data."""
    parser.add_argument("--rows", type=int, help="length of the queue (default: 2000)")
    add_found_data_option(parser)


# The measurements


def measure_stack(items: Sequence[Item], port: int, *, samples: int, rounds: int, bulk: int) -> tuple[Figures, "Queue"]:
    """Return the figures of a whole running Aisle, and the queue with its stored rows."""
    import django
    from django.conf import settings

    django.setup()
    log_step("Loading the models into this process, for the bare loop")
    bare, eager = BareModels(), EagerModels()
    queue = Queue(items)
    some = list(islice(cycle(items), samples))
    with closing(Seller(port, queue.token)) as seller:
        seller.ask(items[0])  # the workers load their models
    wait_for_archive()

    with closing(Seller(port, queue.token)) as seller:
        waits = [seller.ask(item) for item in track_progress(some, "One seller")]
    wait_for_archive()
    singles = [bare.one(item) for item in track_progress(some, "The bare models, one by one")]

    queued, alone, eagerly = [], [], []
    bare.many(queue.stored[:32])
    few = queue.stored[: max(len(queue.stored) // 4, 32)]  # the slow loop's speed hangs on no number of rows
    for _ in track_progress(range(rounds), f"{len(items)} rows, bare and queued"):
        alone.append(bare.many(queue.stored))
        eagerly.append(eager.many(few) * len(queue.stored) / len(few))
        queued.append(queue.drain())
        wait_for_archive()

    log_step(f"One seller while {bulk} bulk rows wait")
    queue.fill(bulk)
    with closing(Seller(port, queue.token)) as seller:
        crowded = [seller.ask(item) for item in track_progress(some, "One seller among many rows")]
    left = queue.clear()
    wait_for_archive()
    per_second = len(items) / statistics.median(queued)
    bare_per_second = len(items) / statistics.median(alone)
    eager_per_second = len(items) / statistics.median(eagerly)
    figures = {
        "interactive_p50_ms": round(float(np.percentile(waits, 50)), 1),
        "interactive_p95_ms": round(float(np.percentile(waits, 95)), 1),
        "interactive_p99_ms": round(float(np.percentile(waits, 99)), 1),
        "bare_single_ms": round(statistics.median(singles), 1),
        "crowded_p50_ms": round(float(np.percentile(crowded, 50)), 1),
        "crowded_p95_ms": round(float(np.percentile(crowded, 95)), 1),
        "crowded_rows": bulk,
        "crowded_rows_left": left,
        "batch_ms": round(1000 * settings.BATCH_SIZE / bare_per_second, 1),
        "queue_per_second": round(per_second, 1),
        "bare_per_second": round(bare_per_second, 1),
        "torch_eager_per_second": round(eager_per_second, 1),
        "queue_vs_bare": round(per_second / bare_per_second, 3),
        "queue_vs_torch_eager": round(per_second / eager_per_second, 3),
        "engines": {"text": bare.text.engine, "image": bare.image.engine},
        "queue_per_second_rounds": [round(len(items) / seconds, 1) for seconds in queued],
        "bare_per_second_rounds": [round(len(items) / seconds, 1) for seconds in alone],
        "samples": samples,
    }
    return figures, queue


def measure_workers(queue: "Queue", *, rounds: int) -> dict[str, Any]:
    """Return how much faster two workers are than one, each on one core with one thread."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return {"two_workers_vs_one": None, "two_bare_vs_one": None}
    log_step("One worker on one core, two on two")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    bare: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for count, times in seconds.items():
            bare[count].append(time_side_by_side(cores[:count], queue.stored))
            with running_workers(cores[:count]):
                queue.drain(warm=True)
                queue.forget_archive()
                times.append(queue.drain())
                queue.forget_archive()
    one, two = (statistics.median(times) for times in seconds.values())
    alone, both = (statistics.median(times) for times in bare.values())
    rows = len(queue.stored)
    return {
        "one_worker_per_second": round(rows / one, 1),
        "two_workers_per_second": round(rows / two, 1),
        "two_workers_vs_one": round(one / two, 3),
        "two_bare_vs_one": round(alone / both, 3),
    }


class Seller:
    """A client of the API that uploads one product after the other."""

    def __init__(self, port: int, token: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.token = token

    def ask(self, item: Item) -> float:
        """Return the milliseconds from POST to result, in an otherwise idle system."""
        body, content_type = multipart_body(item.photo, title=item.title, description=item.description)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type, "Prefer": "wait=10"}
        time.sleep(PAUSE)
        start = time.perf_counter()
        self.connection.request("POST", "/api/v1/predictions", body, headers)
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        milliseconds = (time.perf_counter() - start) * 1000
        if response.status == http.client.ACCEPTED:  # the models are still being loaded
            return milliseconds
        assert response.status == http.client.OK, answer
        assert answer["state"] == "done" and len(answer["top5"]) == 5, answer
        return milliseconds

    def close(self) -> None:
        self.connection.close()


class Queue:
    """A seller's rows in the database that the running workers share."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.seller, self.token = create_seller()
        self.stored = [
            StoredItem(item.title, item.description, photo.small, vars(photo))
            for item in track_progress(items, "Storing photographs")
            for photo in [self._store(item.photo)]
        ]

    def _store(self, content: bytes) -> Any:
        from django.core.files.uploadedfile import SimpleUploadedFile

        from portal.products import photos

        photo = photos.Photo.with_new_names()
        photos.store_photo(photo, photos.clean_photo(SimpleUploadedFile("photo.jpg", content)))
        return photo

    def drain(self, *, warm: bool = False) -> float:
        """Queue all rows (`warm`: a few) at one instant; return the seconds until the last result is stored."""
        from django.db import transaction
        from django.utils import timezone

        from classifier.models import Prediction

        committed = []
        with transaction.atomic():
            transaction.on_commit(lambda: committed.append(timezone.now()))
            products = self._submit(self.stored[:64] if warm else self.stored)
        mine = Prediction.objects.filter(pk__in=[product.prediction_id for product in products])
        wait_until(lambda: not mine.waiting().exists(), "the end of the queue")
        finished = [end for state, end in mine.values_list("state", "finished_at") if state == "done" and end]
        assert len(finished) == len(products), "some predictions failed"
        return (max(finished) - committed[0]).total_seconds()

    def fill(self, rows: int) -> None:
        """Queue so many rows as bulk work."""
        from django.db import transaction

        from classifier.models import Prediction

        with transaction.atomic():
            self._submit(list(islice(cycle(self.stored), rows)), priority=Prediction.Priority.BULK)

    def clear(self) -> int:
        """Take back the rows that no worker has claimed; return how many those are."""
        from django.utils import timezone

        from classifier.models import Prediction

        now = timezone.now()
        waiting = Prediction.objects.filter(state=Prediction.State.QUEUED)
        return waiting.update(state=Prediction.State.FAILED, error="taken back", finished_at=now, archived_at=now)

    def _submit(self, rows: Sequence[StoredItem], **options: Any) -> list[Any]:
        from portal.models import ProductPhoto
        from portal.products.services import submit_product

        return [
            submit_product(
                seller=self.seller,
                title=row.title,
                description=row.description,
                photos=[ProductPhoto.objects.create(seller=self.seller, **row.photo)],
                **options,
            )
            for row in rows
        ]

    def forget_archive(self) -> None:
        """Mark all predictions as archived: where only predict workers run, none archives them."""
        from django.utils import timezone

        from classifier.models import Prediction

        Prediction.objects.filter(archived_at=None).update(archived_at=timezone.now())


# The report


def print_report(figures: Figures) -> None:
    """Print the figures with their baselines."""
    rows = [
        ("One seller, POST to result, median", f"{figures['interactive_p50_ms']} ms"),
        ("One seller, POST to result, 95th percentile", f"{figures['interactive_p95_ms']} ms"),
        (f"The same while {figures['crowded_rows']} bulk rows wait, 95th", f"{figures['crowded_p95_ms']} ms"),
        ("One batch of bulk rows", f"{figures['batch_ms']} ms"),
        ("Decode, copies and models of one product, bare", f"{figures['bare_single_ms']} ms"),
        (f"Queue of {figures['rows']}", f"{figures['queue_per_second']} predictions/s"),
        ("Bare loop, batches of 32", f"{figures['bare_per_second']} predictions/s"),
        ("Queue / bare loop", f"{figures['queue_vs_bare']:.2f}"),
        ("Queue / torch eager float32", f"{figures['queue_vs_torch_eager']:.2f}"),
        ("Two workers / one, a core each", f"{figures['two_workers_vs_one'] or float('nan'):.2f}"),
        ("Two bare processes / one, a core each", f"{figures['two_bare_vs_one'] or float('nan'):.2f}"),
    ]
    print_rows(rows)
    print(f"\n{figures['items']} products, {figures['samples']} single uploads")


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_serving, print_report=print_report, add_options=add_options,
        quick="fewer repetitions: about a minute",
    )  # fmt: skip
