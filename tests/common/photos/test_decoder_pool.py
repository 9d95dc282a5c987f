import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from common.fair_turns import NoTurn
from common.photos.decoder_pool import LARGE, ORDINARY, Copies, DecoderPool
from common.photos.headers import Fault, PictureError, read_from, read_header
from tests.support.hostile_pictures import SIDE, plain, png, repeated_scans
from tests.support.photos import product_photo

ROOT = Path(__file__).parents[3]
PATIENCE = 60
MEMORY = 500_000_000


@contextmanager
def pool_of(count: int = 1, memory: int = MEMORY, seconds: float = 30) -> Iterator[DecoderPool]:
    pool = DecoderPool(count=count, memory=memory, seconds=seconds)
    try:
        yield pool
    finally:
        pool.close()


def decode(pool: DecoderPool, content: bytes, owner: object = "seller", patience: float = PATIENCE) -> Copies:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        header = read_header(read_from(content), len(content))
        return pool.decode(file.fileno(), header, owner=owner, patience=patience)


def refusal(pool: DecoderPool, content: bytes) -> Fault:
    with pytest.raises(PictureError) as caught:
        decode(pool, content)
    return caught.value.fault


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_process_decodes_many_pictures() -> None:
    with pool_of() as pool:
        for _number in range(3):
            copies = decode(pool, product_photo())
            assert copies.large.startswith(b"\xff\xd8") and copies.small.startswith(b"\xff\xd8")
        assert len(pool.processes) == 1


def test_a_decoder_that_takes_too_long_is_ended_and_replaced() -> None:
    with pool_of(seconds=0.1) as pool:
        decode(pool, product_photo(size=(64, 48)))
        first = pool.processes
        slow = repeated_scans(90, plain(size=(2000, 1500), progressive=True))
        assert refusal(pool, slow) == Fault.TOO_SLOW
        decode(pool, product_photo(size=(64, 48)))
        assert pool.processes != first
        assert len(pool.processes) == 1


def test_a_decoder_that_hangs_without_using_the_processor_is_ended_too() -> None:
    with pool_of(seconds=0.5) as pool:
        decode(pool, product_photo())
        os.kill(pool.processes[0], signal.SIGSTOP)
        assert refusal(pool, product_photo()) == Fault.TOO_SLOW
        assert decode(pool, product_photo())


def test_a_picture_that_needs_more_memory_than_there_is_is_refused_before_it_is_decoded() -> None:
    with pool_of(memory=200_000_000) as pool:
        assert refusal(pool, png(SIDE, SIDE, colour=6)) == Fault.TOO_MUCH_MEMORY
        assert pool.processes == []


def test_a_decoder_gets_no_more_memory_than_it_was_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.photos.headers.Header.decoding_memory", lambda self: 0)  # an estimate that is wrong
    with pool_of() as pool:
        assert refusal(pool, png(5000, 5000, colour=6)) == Fault.TOO_MUCH_MEMORY
        assert decode(pool, product_photo())


def test_an_upload_whose_decoder_is_killed_notices_nothing() -> None:
    with pool_of() as pool:
        decode(pool, product_photo())
        victim = pool.processes[0]
        os.kill(victim, signal.SIGSTOP)
        results: list[Copies] = []
        upload = threading.Thread(target=lambda: results.append(decode(pool, product_photo())))
        upload.start()
        until(lambda: pool.turns.at_work == 1)
        os.kill(victim, signal.SIGKILL)
        upload.join(PATIENCE)
        assert len(results) == 1
        assert victim not in pool.processes


def test_a_picture_that_ends_every_decoder_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.photos.decoder_pool.ROOT", "/")  # no decoder can start there
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pool_of() as pool:
        assert refusal(pool, product_photo()) == Fault.BROKEN
        assert pool.processes == []


def test_the_decoder_of_a_large_picture_ends_with_it() -> None:
    with pool_of() as pool:
        decode(pool, product_photo())
        ordinary = pool.processes
        assert decode(pool, png(5000, 5000, colour=6))
        assert pool.processes == ordinary


def test_large_pictures_leave_ordinary_ones_their_place() -> None:
    with pool_of() as pool, pool.turns.turn("one", LARGE, patience=1):
        assert decode(pool, product_photo(), owner="another")
        with pytest.raises(NoTurn):
            decode(pool, png(5000, 5000, colour=6), owner="another", patience=0.01)


def test_a_seller_decodes_one_picture_at_a_time() -> None:
    with pool_of(count=2) as pool, pool.turns.turn("seller", ORDINARY, patience=1):
        assert decode(pool, product_photo(), owner="another")
        with pytest.raises(NoTurn):
            decode(pool, product_photo(), owner="seller", patience=0.01)


def test_decoders_know_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "not for decoders")
    with pool_of() as pool:
        decode(pool, product_photo())
        process = psutil.Process(pool.processes[0])
        assert "SECRET_KEY" not in process.environ()
        assert not any("django" in file.path for file in process.memory_maps())


def test_decoders_end_with_the_process_that_started_them() -> None:
    code = (
        "import time; from common.photos.decoder_pool import DecoderPool;"
        "pool = DecoderPool(count=2, memory=500_000_000, seconds=9); pool.start();"
        "print(*pool.processes, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        decoders = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    assert len(decoders) == 2
    until(lambda: not any(psutil.pid_exists(decoder) and _runs(decoder) for decoder in decoders))


def _runs(process: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    return False
