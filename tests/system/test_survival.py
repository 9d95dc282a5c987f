"""Kill workers and restart servers for real: nothing is lost, nothing is done twice."""

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from benchmarks.harness.processes import BIN, free_port, is_ready, wait_until
from tests.support.stack import Stack, Uploader


@pytest.fixture(scope="module")
def running(module_home: Path) -> Iterator[Stack]:
    """A whole running installation, whose workers claim few rows at once so that many batches can be hit."""
    stack = Stack(module_home, BATCH_SIZE="8")
    try:
        stack.start_all()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def stack(running: Stack) -> Stack:
    """The running installation without a product."""
    running.forget_products()
    return running


def upload_models(client: Any, home: Path) -> None:
    """Copy the model versions that the prepared home has in its folder into the bucket."""
    storage = home / "storage"
    for path in (storage / "models").rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "aisle", str(path.relative_to(storage)))


def everything_is_done(stack: Stack, uploads: int) -> bool:
    return stack.count("state = 'done'") == uploads


def assert_nothing_lost_or_doubled(stack: Stack, uploads: int) -> None:
    assert stack.count("true") == uploads
    assert stack.count("state = 'done' AND error = '' AND top5 IS NOT NULL") == uploads
    assert stack.query("SELECT count(*), count(DISTINCT prediction_id), count(DISTINCT sku) FROM portal_product") == [
        (uploads, uploads, uploads)
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("uploads", "kills"), [(40, 2), pytest.param(200, 10, marks=pytest.mark.slow)])
def test_uploads_survive_killed_workers(stack: Stack, uploads: int, kills: int) -> None:
    uploader, dice = Uploader(stack), random.Random(1)
    stack.pause("predict")  # so that there is work for all of its successors
    for number in range(uploads):
        assert uploader.upload(f"Mug {number}", photo=number % 2 == 0).status_code == 202
    stack.resume("predict")
    finished: dict[str, object] = {}
    killed = 0
    while not everything_is_done(stack, uploads):
        if killed < kills:
            wait_until(lambda: stack.count("state = 'running'") or everything_is_done(stack, uploads), "a busy worker")
            time.sleep(dice.uniform(0, 0.3))
            stack.kill("predict")
            killed += 1
            stack.start_worker()
        for key, moment in stack.query("SELECT id, finished_at FROM classifier_prediction WHERE state = 'done'"):
            assert finished.setdefault(str(key), moment) == moment, "a result was stored twice"
        time.sleep(0.5)
    assert killed == kills, "the workers were quicker than their killer: give them more to do"
    assert_nothing_lost_or_doubled(stack, uploads)


@pytest.mark.timeout(600)
def test_a_restarted_broker_loses_nothing(stack: Stack) -> None:
    uploader = Uploader(stack)
    assert uploader.upload("before", wait=10, photo=False).status_code in (200, 202)
    stack.stop_valkey()
    # No worker can be notified and the cache can't count, and still the upload is taken.
    assert uploader.upload("during", photo=False).status_code == 202
    stack.start_valkey()
    wait_until(lambda: uploader.upload("after", photo=False).status_code == 202, "uploads after the restart")
    wait_until(lambda: stack.count("state <> 'done'") == 0, "all predictions")
    assert stack.query("SELECT sku FROM portal_product ORDER BY created_at") == [("before",), ("during",), ("after",)]


@pytest.mark.timeout(600)
def test_a_restarted_database_loses_nothing_that_was_taken(stack: Stack) -> None:
    uploader = Uploader(stack)
    taken = 0
    for number in range(20):
        taken += uploader.upload(f"Mug {number}").status_code == 202
    stack.stop_postgres()
    refusal = uploader.upload("while it is down")
    assert refusal.status_code == 503 and refusal.headers["Retry-After"]
    assert refusal.json()["errors"][0]["code"] == "database_down"
    stack.start_postgres()
    wait_until(lambda: uploader.upload("after").status_code == 202, "uploads after the restart")
    wait_until(lambda: everything_is_done(stack, taken + 1), "all predictions")
    assert_nothing_lost_or_doubled(stack, taken + 1)


@pytest.mark.timeout(600)
def test_a_lone_upload_is_answered_while_its_client_waits(stack: Stack) -> None:
    uploader = Uploader(stack)
    stack.wait_for_models()
    answer = uploader.upload("Acoustic guitar", wait=10)
    assert answer.status_code == 200
    assert len(answer.json()["top5"]) == 5
    wait_until(lambda: stack.count("archived_at IS NOT NULL") == 1, "the archive")
    names = {path.name for path in (stack.home / "storage" / "archive").glob(f"*/{answer.json()['id']}/*")}
    assert names == {"input.json", "image.jpg", "text.json", "image.json", "ensemble.json"}


@pytest.mark.timeout(600)
def test_a_storage_that_hangs_delays_photos_and_archive_and_nothing_else(home: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    storage = subprocess.Popen([f"{BIN}/moto_server", "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    stack = None
    try:
        wait_until(lambda: is_ready(address), "the storage server")
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)
        client.create_bucket(Bucket="aisle")
        upload_models(client, home)
        bucket = {"AWS_STORAGE_BUCKET_NAME": "aisle", "AWS_S3_ENDPOINT_URL": address}
        stack = Stack(home, **bucket, **credentials)
        stack.start_all()
        uploader = Uploader(stack)
        assert uploader.upload("before").status_code == 202
        wait_until(lambda: stack.count("archived_at IS NOT NULL") == 1, "the archive")

        storage.send_signal(signal.SIGSTOP)
        without_photo = uploader.upload("during", wait=10, photo=False)
        assert without_photo.status_code == 200 and without_photo.json()["top5"]
        with_photo = uploader.upload("a photo during", timeout=120)
        assert with_photo.status_code == 503
        assert with_photo.json()["errors"][0]["code"] == "storage_down"
        assert stack.count("archived_at IS NOT NULL") == 1

        storage.send_signal(signal.SIGCONT)
        stack.query("UPDATE classifier_prediction SET archive_due_at = now() RETURNING 1")
        wait_until(lambda: stack.count("archived_at IS NULL") == 0, "the delayed archive")
    finally:
        storage.kill()
        storage.wait()
        if stack:
            stack.stop()
