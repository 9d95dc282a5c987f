"""Measure what hostile pictures cost a web process and the other sellers.

First the attacks that were carried out once, each by `portal.products.photos.clean_photo` in a process of its own:
its peak memory, its decoders' and the time; with `--baseline FOLDER` also in another checkout. Then all hostile
pictures of the tests against a real web process, while another seller uploads ordinary photographs: deaths, refusals,
proportional set size of web and decoders, and how much longer the other seller waits. See benchmarks/README.md.
"""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.items import draw_photo
from benchmarks.harness.memory import proportional_megabytes
from benchmarks.harness.multipart import multipart_body
from benchmarks.harness.processes import ROOT, process_tree
from benchmarks.harness.progress import log_step, track_progress
from benchmarks.harness.stack import create_seller, prepare_database, running_web, set_up_home
from tests.support.hostile_pictures import SIDE, Hostile, all_hostile, huge_jpeg, png

LIMIT_MB = 768
ATTACKERS = 3
PAUSE = 0.1  # seconds between two uploads of the other seller
TIMEOUT = 120
ATTACKS = (
    "webp bomb: RGB, lossless",
    "jpeg of 1,450,000 empty segments e2",
    "jpeg with 11900000 bytes b'\\xff' before a marker",
    "png of 900,000 empty teSt after IDAT",
    "baseline jpeg that claims 7000 x 7000",
)
# Runs in the checkout that is measured: one picture, as the web process would take it.
ONE_PICTURE = """
import json, os, re, resource, sys, threading, time, django
from pathlib import Path
django.setup()
from django.core.files.uploadedfile import TemporaryUploadedFile
from portal.products.photos import PhotoError, clean_photo
def upload(path):
    file = TemporaryUploadedFile("photo", "image/jpeg", os.path.getsize(path), None)
    file.write(Path(path).read_bytes()); file.seek(0)
    return file
clean_photo(upload(sys.argv[1]))
def peak(process):  # not getrusage's, which begins with that of the process it was forked from
    try:
        return round(int(re.search(r"VmHWM:\\s+(\\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1000)
    except (OSError, TypeError):
        return 0
decoders = {}
try:
    from common.photo_decoding import upload_decoders
    def watch():
        while True:
            for process in upload_decoders().processes:
                decoders[process] = max(peak(process), decoders.get(process, 0))
            time.sleep(0.003)
    threading.Thread(target=watch, daemon=True).start()
except ImportError:
    pass
before = resource.getrusage(resource.RUSAGE_SELF)
hostile = upload(sys.argv[2])
start = time.perf_counter()
try:
    clean_photo(hostile); message = ""
except PhotoError as error:
    message = str(error)
seconds = time.perf_counter() - start
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "seconds": round(seconds, 2),
    "web_cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
    "web_peak_mb": peak("self"),
    "decoder_peak_mb": max(decoders.values(), default=0),
    "message": message,
}))
"""


def measure_hostile_pictures(options: Options) -> Figures:
    """Return what hostile pictures cost the web process and the other sellers."""
    set_up_home()
    prepare_database()
    figures: Figures = {}
    if not options.server_only:
        figures["attacks"] = measure_attacks(options.baseline)
    if not options.attacks_only:
        hostile = all_hostile()[:: 4 if options.quick else 1]
        figures["server"] = measure_server(hostile, ordinary=10 if options.quick else 40)
    return figures


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --baseline, --attacks-only and --server-only."""
    parser.add_argument("--baseline", type=Path, help="another checkout of Aisle to measure the attacks in")
    parser.add_argument("--attacks-only", action="store_true")
    parser.add_argument("--server-only", action="store_true")


# One attack at a time


def known_attacks() -> list[Hostile]:
    named = {hostile.name: hostile for hostile in all_hostile()}
    return [
        *(named[name] for name in ATTACKS),
        Hostile("16-bit grey and alpha PNG of 50 MP", partial(png, SIDE, SIDE, depth=16, colour=4)),
        Hostile("16-bit RGBA PNG of 50 MP", partial(png, SIDE, SIDE, depth=16, colour=6)),
        Hostile("progressive CMYK JPEG of 50 MP", partial(huge_jpeg, "CMYK", progressive=True, subsampling=0)),
    ]


def measure_attacks(baseline: Path | None) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        ordinary = Path(folder) / "ordinary"
        ordinary.write_bytes(ordinary_photo())
        for attack in track_progress(known_attacks(), "Attacks"):
            file = Path(folder) / "hostile"
            file.write_bytes(attack.make())
            row: dict[str, Any] = {"attack": attack.name, "bytes": file.stat().st_size}
            if baseline:
                row["before"] = clean_in(baseline, ordinary, file)
            rows.append(row | {"after": clean_in(ROOT, ordinary, file)})
    return rows


def clean_in(checkout: Path, ordinary: Path, file: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", ONE_PICTURE, str(ordinary), str(file)]
    output = subprocess.check_output(command, cwd=checkout, text=True)
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures


# All of them against a web process


def measure_server(hostile: Sequence[Hostile], *, ordinary: int) -> dict[str, Any]:
    tokens = make_sellers(ATTACKERS + 1)
    with tempfile.TemporaryDirectory() as folder, running_web() as running:
        files = [Path(folder) / str(number) for number in range(len(hostile))]
        for file, kind in zip(files, track_progress(hostile, "Making pictures"), strict=True):
            file.write_bytes(kind.make())
        other = OtherSeller(running.port, tokens[0])
        other.upload_one()  # the first one warms up
        web = running.process
        workers = {child.pid for child in web.children() if "gunicorn" in " ".join(child.cmdline())}
        monitor = PeakMonitor(web)
        monitor.start()
        log_step("Ordinary uploads alone")
        alone = [other.upload_one() for _ in range(ordinary)]
        idle_mb = monitor.most
        log_step(f"{len(hostile)} hostile pictures by {ATTACKERS} sellers, ordinary uploads at the same time")
        attackers = [
            Attacker(running.port, token, list(zip(hostile, files, strict=True))[number::ATTACKERS])
            for number, token in enumerate(tokens[1:])
        ]
        for attacker in attackers:
            attacker.start()
        contended = []
        while any(attacker.is_alive() for attacker in attackers):
            contended.append(other.upload_one())
        monitor.stop()
        is_same = workers == {child.pid for child in web.children() if "gunicorn" in " ".join(child.cmdline())}
    return summarise(attackers, alone, contended) | {
        "web_process_died": not is_same,
        "most_mb_before": round(idle_mb),
        "most_mb": round(monitor.most),
        "most_web_mb": round(monitor.most_web),
        "within_limit": monitor.most <= LIMIT_MB,
    }


def summarise(attackers: Sequence["Attacker"], alone: Sequence[float], contended: Sequence[float]) -> dict[str, Any]:
    answers = [answer for attacker in attackers for answer in attacker.answers]
    wrong = [
        f"{kind.name}: {status} {words}"
        for kind, status, words in answers
        if status >= 500
        or (status >= 400 and not words)
        or (kind.refused is not None and kind.refused != (status >= 400))
    ]
    slow = sorted(
        ((seconds, name) for attacker in attackers for name, seconds in attacker.seconds.items()), reverse=True
    )
    return {
        "pictures": len(answers),
        "by_status": dict(sorted(Counter(status for _kind, status, _words in answers).items())),
        "refusals": dict(Counter(words for _kind, status, words in answers if status >= 400).most_common()),
        "wrong": wrong,
        "slowest": [f"{seconds:.1f} s: {name}" for seconds, name in slow[:5]],
        "other_alone_p50_ms": round(median(alone) * 1000, 1),
        "other_alone_p95_ms": round(float(np.percentile(alone, 95)) * 1000, 1),
        "other_meanwhile": len(contended),
        "other_meanwhile_p50_ms": round(median(contended) * 1000, 1),
        "other_meanwhile_p95_ms": round(float(np.percentile(contended, 95)) * 1000, 1),
        "other_meanwhile_max_ms": round(max(contended) * 1000, 1),
        "slower": round(median(contended) / median(alone), 2),
    }


class Attacker(threading.Thread):
    """A seller who uploads one hostile picture after the other."""

    def __init__(self, port: int, token: str, pictures: Sequence[tuple[Hostile, Path]]) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[Hostile, int, str]] = []
        self.seconds: dict[str, float] = {}
        self._port, self._token, self._pictures = port, token, pictures

    def run(self) -> None:
        for kind, file in self._pictures:
            start = time.monotonic()
            try:
                status, words = post_photo(self._port, self._token, file.read_bytes())
            except OSError as error:
                status, words = 599, repr(error)
            self.seconds[kind.name] = time.monotonic() - start
            self.answers.append((kind, status, words))


class OtherSeller:
    """A seller with ordinary photographs."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token, self._photo = port, token, ordinary_photo()

    def upload_one(self) -> float:
        """Return how many seconds an upload takes."""
        time.sleep(PAUSE)
        start = time.monotonic()
        status, words = post_photo(self._port, self._token, self._photo)
        assert status == http.client.ACCEPTED, f"{status} {words}"
        return time.monotonic() - start


class PeakMonitor(threading.Thread):
    """Measures the memory of the web process, its master and their decoders again and again; keeps the highest."""

    def __init__(self, web: psutil.Process) -> None:
        super().__init__(daemon=True)
        self.most = self.most_web = 0.0
        self._web, self._is_over = web, threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(0.05):
            family = process_tree(self._web)
            weights = {process.pid: proportional_megabytes(process) for process in family}
            decoders = sum(weights[p.pid] for p in family if is_decoder(p))
            self.most = max(self.most, sum(weights.values()))
            self.most_web = max(self.most_web, sum(weights.values()) - decoders)

    def stop(self) -> None:
        self._is_over.set()
        self.join()


def is_decoder(process: psutil.Process) -> bool:
    try:
        return "common.photos.decoder_process" in process.cmdline()
    except psutil.Error:
        return True  # it has ended, as decoders do


def post_photo(port: int, token: str, photo: bytes) -> tuple[int, str]:
    """Upload a photograph; return the status and, of a refusal, its sentence."""
    body, content_type = multipart_body(photo, title="Acoustic guitar")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
        connection.request("POST", "/api/v1/predictions", body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    words = answer["errors"][0]["detail"] if response.status >= http.client.BAD_REQUEST else ""
    return response.status, words


def make_sellers(count: int) -> list[str]:
    """Return tokens of new sellers."""
    return [create_seller(f"bench{number}@shop.example")[1] for number in range(count)]


def ordinary_photo() -> bytes:
    return draw_photo(np.random.default_rng(18), (1600, 1200))


# The report


def print_report(figures: Figures) -> None:
    """Print each attack, then a figure of the server a line."""
    for row in figures.get("attacks", []):
        print(f"{row['attack']} ({row['bytes']:,} bytes)")
        for when in ("before", "after"):
            if when in row:
                print(f"  {when:7}" + ", ".join(f"{name} {value}" for name, value in row[when].items()))
    for name, value in figures.get("server", {}).items():
        print(f"{name:24}{value}")


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_hostile_pictures, print_report=print_report, add_options=add_options,
        quick="every fourth picture: about a minute",
    )  # fmt: skip
