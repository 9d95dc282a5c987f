"""Aisle's API beside the same models behind LitServe and Ray Serve: requests per second and how long each takes.

32 clients at once upload title, description and a JPEG over HTTP and wait for the five likeliest categories. Aisle, a
whole one of its own, cleans the photograph, stores two copies and the result and archives it; the others only answer,
once with torch eager (out of the box) and once with Aisle's own engine and decoder. See benchmarks/README.md.
"""

import argparse
import http.client
import json
import os
import signal
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
from items import gather
from machine import machine
from processes import Bill, Roles, family, roles
from progress import say
from stack import PATIENCE, ROOT, free_port, running_stack, set_up_home, stop, until
from upload import multipart

HERE = Path(__file__).resolve().parent
ROOM = HERE / "rivals"
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


def tried() -> list[Settings]:
    """Return what --tune tries. Of two workers each has at most half of the clients to answer."""
    cores = len(os.sched_getaffinity(0))
    return [Settings(1, cores, CLIENTS, 0.01), *(Settings(cores, 1, batch, 0.01) for batch in (8, CLIENTS // 2))]


class Rival(NamedTuple):
    """A server of others in benchmarks/rivals, and what computes the models behind it: `eager` or `aisle`."""

    script: str
    engine: str


RIVALS = {
    f"{server}_{title}": Rival(f"on_{script}.py", engine)
    for server, script in (("litserve", "litserve"), ("ray_serve", "ray"))
    for title, engine in (("eager", "eager"), ("with_engine", "aisle"))
}
SETTINGS = dict.fromkeys(RIVALS, Settings(2, 1, 8, 0.01))  # what --tune found best on 2 cores


def main() -> None:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.install:
        install()
        return
    if not python().exists():
        sys.exit(f"The other servers are not installed. First: {sys.executable} {Path(__file__).name} --install")
    load = os.getloadavg()[0]
    items, source = gather(options.data, options.rows)
    requests = [multipart(item.photo, title=item.title, description=item.description) for item in items]
    settings = tune(requests, seconds=options.seconds / 2) if options.tune else SETTINGS
    figures = measure(settings, requests, seconds=options.seconds)
    figures |= machine() | {"load_at_start": round(load, 2), "items": source, "clients": CLIENTS}
    figures["photo_kb"] = round(sum(len(item.photo) for item in items) / len(items) / 1000)
    report(figures, as_json=options.json)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer requests: about four minutes")
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--install", action="store_true", help=f"install the others into {ENVIRONMENT}, and end")
    parser.add_argument(
        "--tune", action="store_true", help="try several settings of the others first, and take the best"
    )
    parser.add_argument("--data", type=Path, help="folder of product data (default: made-up products of 1600x1200)")
    options = parser.parse_args()
    options.rows = 64
    options.seconds = 8 if options.quick else 30
    return options


# The others' own environment


def python() -> Path:
    return ENVIRONMENT / "bin" / "python"


def install() -> None:
    """Make an environment beside Aisle's, whose packages it sees, so that neither disturbs the other."""
    import site

    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    packages = next(ENVIRONMENT.glob("lib/python*/site-packages"))
    (packages / "aisle.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    wanted = ["--requirement", str(ROOM / "requirements.txt")]
    subprocess.run([str(python()), "-m", "pip", "install", "--quiet", *wanted], check=True)


@contextmanager
def running(rival: Rival, settings: Settings) -> Iterator[tuple[int, psutil.Popen]]:
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
                [str(python()), rival.script, str(port)], cwd=ROOM, env=environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                yield port, process
            finally:
                stop(process)
                log.seek(0)
                if said := log.read():
                    say(said[-3000:])


# The measurements


def measure(
    settings: Mapping[str, Settings], requests: Sequence[tuple[bytes, str]], *, seconds: float
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, its in settings.items():
        say(f"{name}: {its}")
        figures[name] = try_out(RIVALS[name], its, requests, seconds) | {"settings": asdict(its)}
    set_up_home()
    import django

    django.setup()
    with running_stack() as aisle:
        headers = {"Authorization": f"Bearer {make_seller()}", "Prefer": "wait=10"}
        path = "/api/v1/predictions"
        figures["aisle"] = drive(aisle.process, roles, aisle.port, path, headers, requests, seconds)
        figures["aisle"]["archived_after_s"] = settle()
    ours = figures["aisle"]
    for name in RIVALS:
        figures[f"aisle_vs_{name}"] = round(ours["per_second"] / figures[name]["per_second"], 2)
    return figures


def tune(requests: Sequence[tuple[bytes, str]], *, seconds: float) -> dict[str, Settings]:
    """Return the settings with which each server answered most."""
    best: dict[str, Settings] = {}
    for name, rival in RIVALS.items():
        speeds: dict[Settings, float] = {}
        for settings in tried():
            found = try_out(rival, settings, requests, seconds)
            speeds[settings] = found["per_second"]
            say(f"{name}: {settings}: {found['per_second']}/s, p99 {found['p99_ms']} ms")
        best[name] = max(speeds, key=lambda each: speeds[each])
    return best


def try_out(rival: Rival, settings: Settings, requests: Sequence[tuple[bytes, str]], seconds: float) -> dict[str, Any]:
    with running(rival, settings) as (port, process):
        return drive(process, everything, port, "/predict", {}, requests, seconds)


def everything(process: psutil.Process) -> Roles:
    return {"all": family(process)}


def drive(
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
    until(lambda: first.is_answered() or process.poll() is not None, f"{path} did not answer in time.")
    if process.poll() is not None:
        sys.exit("The server ended.")
    clients = [
        Client(port, path, headers, list(islice(cycle(requests), at, at + len(requests)))) for at in range(CLIENTS)
    ]
    ask_all(clients, lambda client: client.count(WARM))
    before, own = Bill(by_role(process)), time.process_time()
    start = time.monotonic()
    ask_all(clients, lambda client: client.last(start + seconds))
    spent = time.monotonic() - start
    own, bill = time.process_time() - own, Bill(by_role(process)).since(before)
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
        say(f"{len(failures)} requests failed, such as: {failures[0]}")


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

    def count(self, requests: int) -> None:
        for _ in range(requests):
            self._checked()

    def last(self, deadline: float) -> None:
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


def make_seller() -> str:
    from knox.models import AuthToken

    from portal.accounts.roles import Role
    from portal.models import User

    seller = User.objects.create_user("bench@shop.example", os.urandom(16).hex())
    Role.SELLER.give(seller)
    return str(AuthToken.objects.create(user=seller)[1])


def settle() -> float:
    """Return after how many seconds everything is archived."""
    from classifier.models import Prediction

    start = time.monotonic()
    until(lambda: not Prediction.objects.filter(archived_at=None).exists(), "The archive did not settle.")
    return round(time.monotonic() - start, 1)


# The report


def report(figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    print(f"{'':22}{'per s':>8}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'CPU-ms':>9}")
    for name in ("aisle", *RIVALS):
        row = figures[name]
        times = "".join(f"{row[f'p{share}_ms']:9.0f}" for share in (50, 95, 99))
        print(f"{name:22}{row['per_second']:8.1f}{times}{sum(row['cpu_ms'].values()):9.1f}")
    for name in map("aisle_vs_{}".format, RIVALS):
        print(f"{name:32} {figures[name]:.2f}")
    print("Aisle's CPU-ms a request: " + ", ".join(f"{role} {ms}" for role, ms in figures["aisle"]["cpu_ms"].items()))
    print(
        f"\n{figures['clients']} clients, {figures['items']} products, photographs of {figures['photo_kb']} kB; "
        f"{figures['cores']} cores of {figures['cpu']}, torch {figures['torch']}, "
        f"load {figures['load_at_start']} at the start"
    )


if __name__ == "__main__":
    main()
