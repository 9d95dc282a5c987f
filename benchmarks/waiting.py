"""Whether hundreds of clients that wait for their result leave the site quick for everybody else.

Starts a web process of its own, without any worker, so that nothing is answered; lets clients upload a title with
`Prefer: wait=10` and wait at the same time; asks for the product list meanwhile; then finishes the predictions in
batches, as a worker does, and measures how soon their clients know. See benchmarks/README.md.
"""

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
from machine import machine
from progress import say, track
from stack import PATIENCE, ROOT, answers, free_port, set_up_home, stop, until

WAIT = 10
BATCH = 32
BOUNDARY = "aisle"


def main() -> None:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    load = os.getloadavg()[0]
    os.environ["MAX_QUEUE_SECONDS"] = "1000000"  # nobody works here: that is no reason to refuse
    set_up_home()
    import django

    django.setup()
    from django.core.management import call_command

    for command in ("migrate", "prepare"):
        call_command(command, verbosity=0, stdout=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    with web() as (port, process):
        figures = measure(port, process, clients=options.clients, samples=options.samples)
    figures |= machine() | {"load_at_start": round(load, 2)}
    report(figures, as_json=options.json)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: about half a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--clients", type=int, default=300, help="how many wait at the same time (default: 300)")
    options = parser.parse_args()
    options.samples = 20 if options.quick else 60
    return options


@contextmanager
def web() -> Iterator[tuple[int, psutil.Popen]]:
    """Run the web process as `make run` does, and nothing else."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "portal.wsgi", "--bind", f"127.0.0.1:{port}"]
    process = psutil.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        until(lambda: answers(port), "The web process did not start in time.")
        yield port, process
    finally:
        stop(process)


# The measurements


def measure(port: int, process: psutil.Popen, *, clients: int, samples: int) -> dict[str, Any]:
    from classifier.models import Prediction

    token = make_seller()
    idle = [ask_list(port, token) for _ in track(range(samples), "The product list, idle")]
    waiting = [Client(port, token) for _ in range(clients)]
    say(f"{clients} clients upload and wait")
    for client in waiting:
        client.start()
    until(lambda: Prediction.objects.waiting().count() >= clients, "The uploads were not taken in time.")
    time.sleep(0.5)
    deadline = time.monotonic() + WAIT * 0.3  # so that there is time to tell them before they give up
    busy = []
    while len(busy) < samples and time.monotonic() < deadline:
        busy.append(ask_list(port, token))
    figures = {"database_connections": connections(), **weight(process)}
    still = sum(client.is_alive() for client in waiting)
    told = finish(waiting)
    for client in waiting:
        client.join(PATIENCE)
    return {
        "clients": clients,
        "waiting_at_once": still,
        "idle_list_p50_ms": percentile(idle, 50),
        "waiting_list_p50_ms": percentile(busy, 50),
        "waiting_list_p95_ms": percentile(busy, 95),
        "list_ratio": round(percentile(busy, 50) / percentile(idle, 50), 2),
        "told_p50_ms": percentile(told, 50),
        "told_p95_ms": percentile(told, 95),
        "told": len(told),
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
        parts = [
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in (("title", "Acoustic guitar"), ("sku", self.sku))
        ]
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            "Prefer": f"wait={WAIT}",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("POST", "/api/v1/predictions", "".join(parts) + f"--{BOUNDARY}--\r\n", headers)
        response = connection.getresponse()
        response.read()
        self.answered_at, self.status = time.monotonic(), response.status


def finish(waiting: Sequence[Client]) -> list[float]:
    """Finish the predictions batch by batch; return after how many milliseconds each client had its answer."""
    from django.utils import timezone

    from classifier.models import Prediction
    from classifier.serving import notifications

    by_sku = {client.sku: client for client in waiting}
    rung: dict[str, float] = {}
    rows = list(Prediction.objects.waiting().values_list("pk", "product__sku"))
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        ids = [pk for pk, _sku in batch]
        Prediction.objects.filter(pk__in=ids).update(state="failed", error="-", finished_at=timezone.now())
        rung |= dict.fromkeys((sku for _pk, sku in batch), time.monotonic())
        notifications.announce(ids)
        time.sleep(0.25)
    for client in waiting:
        client.join(PATIENCE)
    ok = http.client.OK
    return [(by_sku[sku].answered_at - at) * 1000 for sku, at in rung.items() if by_sku[sku].status == ok]


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


def make_seller() -> str:
    from knox.models import AuthToken

    from portal.models import User

    return str(AuthToken.objects.create(user=User.objects.create_user("waiting@shop.example", "a long password"))[1])


def connections() -> int:
    """Return how many connections the database has, without the one that asks."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def weight(process: psutil.Popen) -> dict[str, int]:
    family = [process, *process.children(recursive=True)]
    return {
        "web_threads": max(each.num_threads() for each in family),
        "web_memory_mb": round(max(each.memory_info().rss for each in family) / 1e6),
    }


def percentile(values: Sequence[float], share: int) -> float:
    return round(float(np.percentile(values, share)), 1) if values else float("nan")


def report(figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
