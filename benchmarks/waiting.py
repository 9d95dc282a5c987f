"""Measure how quick the site stays while hundreds of clients wait for their result.

Starts a web process of its own, without any worker, so that nothing is answered; lets clients upload a title with
`Prefer: wait=10` and wait all together; asks for the product list while they wait; then finishes the predictions in
batches, as a worker does, and measures how soon their clients know. See benchmarks/README.md.
"""

import argparse
import http.client
import os
import threading
import time
import uuid
from collections.abc import Sequence

import numpy as np
import psutil

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.multipart import multipart_body
from benchmarks.harness.processes import PATIENCE, process_tree, wait_until
from benchmarks.harness.progress import log_step, track_progress
from benchmarks.harness.stack import create_seller, prepare_database, running_web, set_up_home

WAIT = 10
BATCH = 32


def measure_waiting(options: Options) -> Figures:
    """Return how quick the site stays while clients wait for their result."""
    os.environ["MAX_QUEUE_SECONDS"] = "1000000"  # no worker runs: that is no reason to refuse
    set_up_home()
    prepare_database()
    with running_web("/health/ready/") as web:
        return measure_site(web.port, web.process, clients=options.clients, samples=20 if options.quick else 60)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --clients."""
    parser.add_argument("--clients", type=int, default=300, help="how many wait at the same time (default: 300)")


# The measurements


def measure_site(port: int, process: psutil.Popen, *, clients: int, samples: int) -> Figures:
    """Return the times of the product list without and with waiting clients, and of their results."""
    from classifier.models import Prediction

    _, token = create_seller()
    idle = [ask_list(port, token) for _ in track_progress(range(samples), "The product list, idle")]
    waiting = [Client(port, token) for _ in range(clients)]
    log_step(f"{clients} clients upload and wait")
    for client in waiting:
        client.start()
    wait_until(lambda: Prediction.objects.waiting().count() >= clients, "the uploads")
    time.sleep(0.5)
    deadline = time.monotonic() + WAIT * 0.3  # leaves time to finish them before they give up
    busy: list[float] = []
    while len(busy) < samples and time.monotonic() < deadline:
        busy.append(ask_list(port, token))
    figures = {"database_connections": count_connections(), **web_process_figures(process)}
    still = sum(client.is_alive() for client in waiting)
    notified = finish_predictions(waiting)
    for client in waiting:
        client.join(PATIENCE)
    return {
        "clients": clients,
        "waiting_at_once": still,
        "idle_list_p50_ms": rounded_percentile(idle, 50),
        "waiting_list_p50_ms": rounded_percentile(busy, 50),
        "waiting_list_p95_ms": rounded_percentile(busy, 95),
        "list_ratio": round(rounded_percentile(busy, 50) / rounded_percentile(idle, 50), 2),
        "told_p50_ms": rounded_percentile(notified, 50),
        "told_p95_ms": rounded_percentile(notified, 95),
        "told": len(notified),
        **figures,
    }


class Client(threading.Thread):
    """One upload that waits for its result."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__(daemon=True)
        self.port, self.token = port, token
        self.sku = uuid.uuid4().hex
        self.answered_at = 0.0
        self.status = 0

    def run(self) -> None:
        body, content_type = multipart_body(None, title="Acoustic guitar", sku=self.sku)
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": content_type,
            "Prefer": f"wait={WAIT}",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("POST", "/api/v1/predictions", body, headers)
        response = connection.getresponse()
        response.read()
        self.answered_at, self.status = time.monotonic(), response.status


def finish_predictions(waiting: Sequence[Client]) -> list[float]:
    """Finish the predictions batch by batch; return after how many milliseconds each client had its answer."""
    from django.utils import timezone

    from classifier.models import Prediction
    from classifier.serving import notifications

    by_sku = {client.sku: client for client in waiting}
    announced: dict[str, float] = {}
    rows = list(Prediction.objects.waiting().values_list("pk", "product__sku"))
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        ids = [pk for pk, _sku in batch]
        Prediction.objects.filter(pk__in=ids).update(state="failed", error="-", finished_at=timezone.now())
        announced |= dict.fromkeys((sku for _pk, sku in batch), time.monotonic())
        notifications.publish_finished(ids)
        time.sleep(0.25)
    for client in waiting:
        client.join(PATIENCE)
    ok = http.client.OK
    return [(by_sku[sku].answered_at - at) * 1000 for sku, at in announced.items() if by_sku[sku].status == ok]


def ask_list(port: int, token: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    start = time.perf_counter()
    connection.request("GET", "/api/v1/products", headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    assert response.status == http.client.OK, response.read()
    response.read()
    milliseconds = (time.perf_counter() - start) * 1000
    connection.close()
    time.sleep(0.02)
    return milliseconds


def count_connections() -> int:
    """Return how many connections the database has, without the one that asks."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def web_process_figures(process: psutil.Popen) -> dict[str, int]:
    family = process_tree(process)
    return {
        "web_threads": max(each.num_threads() for each in family),
        "web_memory_mb": round(max(each.memory_info().rss for each in family) / 1e6),
    }


def rounded_percentile(values: Sequence[float], share: int) -> float:
    return round(float(np.percentile(values, share)), 1) if values else float("nan")


if __name__ == "__main__":
    run_benchmark(__doc__, measure_waiting, add_options=add_options, quick="fewer repetitions: about half a minute")
