"""Run an Aisle of its own for a benchmark: embedded servers in a temporary folder, web, workers and beat."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from benchmarks.harness.processes import (
    BIN,
    ROOT,
    free_port,
    is_ready,
    isolate_environment,
    stop_tree,
    wait_until,
)
from benchmarks.harness.progress import log_step

if TYPE_CHECKING:
    from portal.models import User


def set_up_home(kept: Path | None = None) -> None:
    """Give this process and those it starts an Aisle of their own, with embedded servers, and set Django up.

    The home is a temporary folder that is removed in the end, or the folder `kept`.
    """
    home = kept.absolute() if kept else Path(tempfile.mkdtemp(prefix="aisle-bench-"))
    if kept is None:
        atexit.register(shutil.rmtree, home, ignore_errors=True)
    isolate_environment(home)
    os.environ |= {"DJANGO_SETTINGS_MODULE": "portal.settings", "LOG_LEVEL": "WARNING"}
    from portal.operations import embedded_services

    # Held until this process ends: only the last process to leave stops the servers.
    embedded_services.ensure_running()


def prepare_database(*, pages: bool = False) -> None:
    """Migrate the home's database and prepare it as `make run` does; `pages`: with static files."""
    import django

    django.setup()
    from django.core.management import call_command

    log_step("Preparing the database")
    commands = [["migrate", "-v0"], ["prepare", "-v0"]]
    if pages:
        commands.append(["collectstatic", "--no-input", "-v0"])
    for command in commands:
        # Standard output carries the report alone.
        call_command(*command, stdout=sys.stderr)


def create_seller(email: str = "bench@shop.example") -> tuple["User", str]:
    """Create a seller; return the user and an API token."""
    from knox.models import AuthToken

    from portal.accounts.roles import Role
    from portal.models import User

    seller = User.objects.create_user(email, uuid.uuid4().hex)
    Role.SELLER.assign_to(seller)
    return seller, str(AuthToken.objects.create(user=seller)[1])


def wait_for_archive() -> None:
    """Wait until nothing is left to predict or to archive."""
    from classifier.models import Prediction

    wait_until(lambda: not Prediction.objects.filter(archived_at=None).exists(), "the archive")


class RunningStack(NamedTuple):
    """A running `manage.py start`."""

    port: int
    process: psutil.Popen


@contextmanager
def running_stack(*options: str) -> Iterator[RunningStack]:
    """Run web, workers and beat as `make run` does, and stop them."""
    port = free_port()
    address = f"http://127.0.0.1:{port}/health/ready/"
    log = Path(os.environ["AISLE_HOME"]) / "stack.log"
    command = [sys.executable, "manage.py", "start", "--port", str(port), *options]
    log_step("Starting web, workers and beat")
    with log.open("wb") as output:
        stack = psutil.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: is_ready(address) or stack.poll() is not None, "the web process")
        if stack.poll() is not None:
            sys.exit(f"Aisle did not start:\n{log.read_text()[-3000:]}")
        yield RunningStack(port, stack)
    finally:
        stop_tree(stack)


@contextmanager
def running_web(health: str = "/health/live/") -> Iterator[RunningStack]:
    """Run a web process alone from when `health` answers, and stop it."""
    port = free_port()
    command = [str(BIN / "gunicorn"), "--bind", f"127.0.0.1:{port}", "portal.wsgi"]
    web = psutil.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_ready(f"http://127.0.0.1:{port}{health}"), "the web process")
        yield RunningStack(port, web)
    finally:
        stop_tree(web)


@contextmanager
def running_storage() -> Iterator[psutil.Popen]:
    """Run an S3 server that keeps an empty bucket in memory; processes that start later find it in the environment."""
    import boto3

    port = free_port()
    address = f"http://127.0.0.1:{port}"
    os.environ |= {
        "AWS_STORAGE_BUCKET_NAME": "aisle",
        "AWS_S3_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
    }
    command = [str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    server = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_ready(address), "the storage server")
        boto3.client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket="aisle")
        yield server
    finally:
        server.kill()
        server.wait()


@contextmanager
def running_workers(cores: Sequence[int]) -> Iterator[None]:
    """Run a predict worker with one thread on each of the cores, and stop them."""
    workers = []
    command = [str(BIN / "celery"), "-A", "portal", "worker", "-Q", "predict", "-c", "1"]
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
            stop_tree(worker)
