"""A storage that is down is asked a few times, then left alone, then tried again."""

import threading
import uuid

import pytest
from botocore.exceptions import ClientError
from django.core.files.storage import storages
from moto.server import ThreadedMotoServer

from classifier.archive import writer
from common import object_storage
from common.object_storage import Breaker, StorageDown, storage_faults

pytestmark = pytest.mark.django_db


def fail(error: Exception | None = None) -> None:
    with pytest.raises(StorageDown), storage_faults():
        raise error or ConnectionRefusedError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Breaker:
    breaker = Breaker(faults=3, rest=3600)
    monkeypatch.setattr(object_storage, "breaker", breaker)
    return breaker


def test_a_stopped_server_is_left_alone_after_some_faults_and_asked_again_after_its_rest(
    bucket: ThreadedMotoServer, quick: Breaker
) -> None:
    key = uuid.uuid4()
    writer.write_file(key, "input.json", {"title": "before"})
    port = bucket.get_host_and_port()[1]
    bucket.stop()
    said = []
    for _ in range(4):
        with pytest.raises(StorageDown) as caught:
            writer.write_file(key, "input.json", {"title": "meanwhile"})
        said.append(str(caught.value))
    assert ["in a row" in words for words in said] == [False, False, False, True]

    again = ThreadedMotoServer(port=port)
    again.start()
    try:
        with pytest.raises(StorageDown, match="in a row"):
            writer.write_file(key, "input.json", {"title": "still resting"})
        quick._open_until = 0
        writer.write_file(key, "input.json", {"title": "after"})
        assert b"after" in storages["archive"].open(writer.archive_path(key, "input.json")).read()
        writer.write_file(key, "input.json", {"title": "closed again"})
    finally:
        again.stop()


def test_one_thread_tries_for_all_when_the_rest_is_over(quick: Breaker) -> None:
    for _ in range(3):
        fail()
    quick._open_until = 0
    tried, gate = [], threading.Barrier(8)

    def call() -> None:
        gate.wait()
        try:
            with storage_faults():
                tried.append(1)
                raise TimeoutError
        except StorageDown:
            pass

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tried) == 1


def test_only_faults_in_a_row_count() -> None:
    for _ in range(4):
        fail()
        fail()
        with storage_faults():
            pass


def test_a_missing_file_and_a_refusal_are_answers() -> None:
    refusal = {"Error": {"Code": "403"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    for _ in range(5):
        with pytest.raises(FileNotFoundError), storage_faults():
            raise FileNotFoundError
        fail(ClientError(refusal, "PutObject"))  # type: ignore[arg-type]
    with storage_faults():
        pass


def test_a_server_that_fails_inside_is_no_answer() -> None:
    inside = {"Error": {"Code": "500"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
    for _ in range(3):
        fail(ClientError(inside, "PutObject"))  # type: ignore[arg-type]
    with pytest.raises(StorageDown, match="in a row"), storage_faults():
        pytest.fail("was let through")
