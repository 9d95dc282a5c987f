"""An Aisle of its own for a benchmark: embedded servers in a temporary folder, web, workers and beat."""

import atexit
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
from progress import say

ROOT = Path(__file__).resolve().parent.parent
FROM_OUTSIDE = ("AISLE_", "AWS_", "DATABASE_URL", "REDIS_URL", "EMAIL_URL", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS")
PATIENCE = 180  # seconds for whatever should take a few


def set_up_home(kept: Path | None = None) -> None:
    """Give this process and those it starts an Aisle of their own, with embedded servers; `kept` stays."""
    for name in list(os.environ):
        if name.startswith(FROM_OUTSIDE):
            del os.environ[name]
    if kept is None:
        home = tempfile.mkdtemp(prefix="aisle-bench-")
        atexit.register(shutil.rmtree, home, ignore_errors=True)
    else:
        home = str(kept.absolute())
    os.environ |= {
        "AISLE_HOME": home,
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "UPLOAD_RATE": "100000/minute",
        "API_RATE": "100000/minute",
        "LOG_LEVEL": "WARNING",
    }
    sys.path.insert(0, str(ROOT))
    from portal.operations import embedded_services

    embedded_services.ensure_running()  # this process is the last to leave: it stops the servers


class Running(NamedTuple):
    """What `manage.py start` runs."""

    port: int
    process: psutil.Popen


@contextmanager
def running_stack(*options: str) -> Iterator[Running]:
    """Run web, workers and beat as `make run` does; stop them in the end, the stubborn ones too."""
    port = free_port()
    log = Path(os.environ["AISLE_HOME"]) / "stack.log"
    command = [sys.executable, "manage.py", "start", "--port", str(port), *options]
    say("Starting web, workers and beat")
    with log.open("wb") as output:
        stack = psutil.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: answers(port) or stack.poll() is not None, "The web process did not start in time.")
        if stack.poll() is not None:
            sys.exit(f"Aisle did not start:\n{log.read_text()[-3000:]}")
        yield Running(port, stack)
    finally:
        stop(stack)


@contextmanager
def running_web() -> Iterator[int]:
    """Run a web process alone, and give its port once it answers; stop it."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "gunicorn"), "--bind", f"127.0.0.1:{port}", "portal.wsgi"]
    web = psutil.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until(lambda: answers(port, "/health/live/"), "The web process did not start in time.")
        yield port
    finally:
        stop(web)


@contextmanager
def running_storage() -> Iterator[psutil.Popen]:
    """Run an S3 server that keeps everything in memory, with an empty bucket, and name it to what is started later."""
    import boto3

    port = free_port()
    address = f"http://127.0.0.1:{port}"
    os.environ |= {
        "AWS_STORAGE_BUCKET_NAME": "aisle",
        "AWS_S3_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
    }
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    server = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(port, "/"), "The storage server did not start in time.")
        boto3.client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket="aisle")
        yield server
    finally:
        server.kill()
        server.wait()


@contextmanager
def running_workers(cores: Sequence[int]) -> Iterator[None]:
    """Run a predict worker on each of the cores, with one thread; stop them."""
    workers = []
    command = [str(Path(sys.executable).parent / "celery"), "-A", "portal", "worker", "-Q", "predict", "-c", "1"]
    environment = os.environ | {"ENGINE_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        for core in cores:
            worker = psutil.Popen(
                [*command, "-n", f"bench{core}@localhost", "--without-gossip", "--without-mingle", "-l", "ERROR"],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                preexec_fn=partial(os.sched_setaffinity, 0, {core}),
            )  # fmt: skip
            workers.append(worker)
        yield
    finally:
        for worker in workers:
            stop(worker)


def stop(stack: psutil.Popen) -> None:
    try:
        family = [stack, *stack.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    stack.send_signal(signal.SIGINT)
    for process in psutil.wait_procs(family, timeout=20)[1]:
        process.kill()


def until(condition: Callable[[], bool], complaint: str) -> None:
    """Wait until the condition holds; end the benchmark with the complaint when it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(complaint)
        time.sleep(0.05)


def answers(port: int, path: str = "/health/ready/") -> bool:
    try:
        return get(port, path) == http.client.OK
    except OSError:
        return False


def get(port: int, path: str, cookie: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        return connection.getresponse().status
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
