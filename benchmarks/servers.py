"""Compare Aisle's API with the same models behind LitServe and Ray Serve: requests per second and latencies.

32 clients at once upload title, description and a JPEG over HTTP and wait for the five likeliest categories. Aisle, a
whole one of its own, cleans the photograph, stores two copies and the result and archives it; the others only answer,
once with torch eager (out of the box) and once with Aisle's own engine and decoder. See benchmarks/README.md.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks.harness.command_line import Figures, Options, add_data_option, run_benchmark
from benchmarks.harness.items import gather_items
from benchmarks.harness.multipart import multipart_body
from benchmarks.harness.processes import PATIENCE, ROOT, free_port, process_tree, stop_tree, wait_until
from benchmarks.harness.processor_time import ProcessorSeconds, Roles, processes_by_role
from benchmarks.harness.progress import log_step
from benchmarks.harness.stack import create_seller, running_stack, set_up_home, wait_for_archive

REQUIREMENTS = Path(__file__).resolve().parent / "rivals" / "requirements.txt"
ENVIRONMENT = ROOT / "var" / "benchmarks" / "servers-venv"
CLIENTS = 32
WARM = 6  # requests of each client before the clock runs


@dataclass(frozen=True)
class Settings:
    """How a server shares the cores and gathers batches."""

    workers: int
    threads: int  # of each worker
    batch: int  # the most requests in one pass
    wait: float  # seconds that a batch is waited for


def settings_to_try() -> list[Settings]:
    """Return what --tune tries. Of two workers each has at most half of the clients to answer."""
    cores = len(os.sched_getaffinity(0))
    return [Settings(1, cores, CLIENTS, 0.01), *(Settings(cores, 1, batch, 0.01) for batch in (8, CLIENTS // 2))]


class Rival(NamedTuple):
    """A server of others in benchmarks/rivals, and what computes the models behind it: `eager` or `aisle`."""

    module: str
    engine: str


RIVALS = {
    f"{server}_{title}": Rival(f"benchmarks.rivals.on_{module}", engine)
    for server, module in (("litserve", "litserve"), ("ray_serve", "ray"))
    for title, engine in (("eager", "eager"), ("with_engine", "aisle"))
}
SETTINGS = dict.fromkeys(RIVALS, Settings(2, 1, 8, 0.01))  # what --tune found best on 2 cores


def measure_servers(options: Options) -> Figures:
    """Return requests per second and latencies of Aisle and of the same models behind other servers."""
    if options.install:
        install_rivals()
        sys.exit()
    if not rival_python().exists():
        sys.exit(f"The other servers are not installed. First: {sys.executable} -m benchmarks.servers --install")
    seconds = 8 if options.quick else 30
    items, source = gather_items(options.data, 64)
    requests = [multipart_body(item.photo, title=item.title, description=item.description) for item in items]
    settings = tune_rivals(requests, seconds=seconds / 2) if options.tune else SETTINGS
    figures = compare_servers(settings, requests, seconds=seconds)
    kilobytes = sum(len(item.photo) for item in items) / len(items) / 1000
    return figures | {"items": source, "clients": CLIENTS, "photo_kb": round(kilobytes)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --install, --tune and --data."""
    parser.add_argument("--install", action="store_true", help=f"install the others into {ENVIRONMENT}, and end")
    parser.add_argument(
        "--tune", action="store_true", help="try several settings of the others first, and take the best"
    )
    add_data_option(parser)


# The others' own environment


def rival_python() -> Path:
    """Return the Python of the others' environment."""
    return ENVIRONMENT / "bin" / "python"


def install_rivals() -> None:
    """Make an environment beside Aisle's, whose packages it sees, so that neither disturbs the other."""
    import site

    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    packages = next(ENVIRONMENT.glob("lib/python*/site-packages"))
    (packages / "aisle.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    wanted = ["--requirement", str(REQUIREMENTS)]
    subprocess.run([str(rival_python()), "-m", "pip", "install", "--quiet", *wanted], check=True)


@contextmanager
def running_rival(rival: Rival, settings: Settings) -> Iterator[tuple[int, psutil.Popen]]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="aisle-rival-") as folder:
        environment = os.environ | {
            "RIVAL_ENGINE": rival.engine,
            "RIVAL_WORKERS": str(settings.workers),
            "RIVAL_THREADS": str(settings.threads),
            "RIVAL_BATCH": str(settings.batch),
            "RIVAL_WAIT": str(settings.wait),
            "RIVAL_CACHE": str(ENVIRONMENT / "engines"),
            "OMP_NUM_THREADS": str(settings.threads),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        with (Path(folder) / "log").open("w+") as log:
            process = psutil.Popen(
                [str(rival_python()), "-m", rival.module, str(port)], cwd=ROOT, env=environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                yield port, process
            finally:
                stop_tree(process)
                log.seek(0)
                if output := log.read():
                    log_step(output[-3000:])


# The measurements


def compare_servers(
    settings: Mapping[str, Settings], requests: Sequence[tuple[bytes, str]], *, seconds: float
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, its in settings.items():
        log_step(f"{name}: {its}")
        figures[name] = try_out(RIVALS[name], its, requests, seconds) | {"settings": asdict(its)}
    set_up_home()
    import django

    django.setup()
    with running_stack() as aisle:
        headers = {"Authorization": f"Bearer {create_seller()[1]}", "Prefer": "wait=10"}
        path = "/api/v1/predictions"
        figures["aisle"] = send_requests(aisle.process, processes_by_role, aisle.port, path, headers, requests, seconds)
        figures["aisle"]["archived_after_s"] = time_archive()
    ours = figures["aisle"]
    for name in RIVALS:
        figures[f"aisle_vs_{name}"] = round(ours["per_second"] / figures[name]["per_second"], 2)
    return figures


def tune_rivals(requests: Sequence[tuple[bytes, str]], *, seconds: float) -> dict[str, Settings]:
    """Return the settings with which each server answered most."""
    best: dict[str, Settings] = {}
    for name, rival in RIVALS.items():
        speeds: dict[Settings, float] = {}
        for settings in settings_to_try():
            found = try_out(rival, settings, requests, seconds)
            speeds[settings] = found["per_second"]
            log_step(f"{name}: {settings}: {found['per_second']}/s, p99 {found['p99_ms']} ms")
        best[name] = max(speeds, key=lambda each: speeds[each])
    return best


def try_out(rival: Rival, settings: Settings, requests: Sequence[tuple[bytes, str]], seconds: float) -> dict[str, Any]:
    with running_rival(rival, settings) as (port, process):
        return send_requests(process, all_as_one_role, port, "/predict", {}, requests, seconds)


def all_as_one_role(process: psutil.Process) -> Roles:
    return {"all": process_tree(process)}


def send_requests(
    process: psutil.Popen,
    by_role: Callable[[psutil.Process], Roles],
    port: int,
    path: str,
    headers: dict[str, str],
    requests: Sequence[tuple[bytes, str]],
    seconds: float,
) -> dict[str, Any]:
    """Let all clients ask until the time is over; return requests per second, latencies and CPU-ms a request."""
    first = Client(port, path, headers, requests)
    wait_until(lambda: first.is_answered() or process.poll() is not None, f"an answer of {path}")
    if process.poll() is not None:
        sys.exit("The server ended.")
    clients = [
        Client(port, path, headers, list(islice(cycle(requests), at, at + len(requests)))) for at in range(CLIENTS)
    ]
    ask_all(clients, lambda client: client.send_many(WARM))
    before, own = ProcessorSeconds(by_role(process)), time.process_time()
    start = time.monotonic()
    ask_all(clients, lambda client: client.send_until(start + seconds))
    spent = time.monotonic() - start
    own, bill = time.process_time() - own, ProcessorSeconds(by_role(process)).since(before)
    waits = [wait for client in clients for wait in client.waits]
    return {
        "per_second": round(len(waits) / spent, 1),
        **{f"p{share}_ms": round(float(np.percentile(waits, share)), 1) for share in (50, 95, 99)},
        "requests": len(waits),
        "failed": sum(len(client.failures) for client in clients),
        "cpu_ms": {role: round(each * 1000 / len(waits), 1) for role, each in bill.items()},
        "client_cpu_ms": round(own * 1000 / len(waits), 1),
    }


def ask_all(clients: Sequence["Client"], how: Callable[["Client"], None]) -> None:
    threads = [threading.Thread(target=how, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures := [failure for client in clients for failure in client.failures]:
        log_step(f"{len(failures)} requests failed, such as: {failures[0]}")


class Client:
    """One of those who ask, over one connection, one upload after the other."""

    def __init__(self, port: int, path: str, headers: dict[str, str], requests: Sequence[tuple[bytes, str]]) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.path, self.headers = path, headers
        self.requests = cycle(requests)
        self.waits: list[float] = []  # milliseconds
        self.failures: list[str] = []

    def is_answered(self) -> bool:
        """Whether the server is there and its models are loaded."""
        try:
            return self._ask()[0] == http.client.OK
        except (OSError, http.client.HTTPException):
            self.connection.close()
            return False

    def send_many(self, requests: int) -> None:
        """Send so many requests, for warming up."""
        for _ in range(requests):
            self._checked()

    def send_until(self, deadline: float) -> None:
        """Send requests until the deadline, and note how long each took."""
        self.waits.clear()
        self.failures.clear()
        while time.monotonic() < deadline:
            start = time.perf_counter()
            if self._checked():
                self.waits.append((time.perf_counter() - start) * 1000)

    def _checked(self) -> bool:
        status, body = self._ask()
        is_right = status == http.client.OK and len(json.loads(body)["top5"]) == 5
        if not is_right:
            self.failures.append(f"{status} {body[:300]!r}")
        return is_right

    def _ask(self) -> tuple[int, bytes]:
        body, content_type = next(self.requests)
        self.connection.request("POST", self.path, body, {**self.headers, "Content-Type": content_type})
        response = self.connection.getresponse()
        return response.status, response.read()


def time_archive() -> float:
    """Return after how many seconds everything is archived."""
    start = time.monotonic()
    wait_for_archive()
    return round(time.monotonic() - start, 1)


# The report


def print_report(figures: Figures) -> None:
    """Print a row for each server, then Aisle's speed relative to each other one."""
    print(f"{'':22}{'per s':>8}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'CPU-ms':>9}")
    for name in ("aisle", *RIVALS):
        row = figures[name]
        times = "".join(f"{row[f'p{share}_ms']:9.0f}" for share in (50, 95, 99))
        print(f"{name:22}{row['per_second']:8.1f}{times}{sum(row['cpu_ms'].values()):9.1f}")
    for rival in RIVALS:
        name = f"aisle_vs_{rival}"
        print(f"{name:32} {figures[name]:.2f}")
    print("Aisle's CPU-ms a request: " + ", ".join(f"{role} {ms}" for role, ms in figures["aisle"]["cpu_ms"].items()))
    print(f"\n{figures['clients']} clients, {figures['items']} products, photographs of {figures['photo_kb']} kB")


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_servers, print_report=print_report, add_options=add_options,
        quick="fewer requests: about four minutes",
    )  # fmt: skip
