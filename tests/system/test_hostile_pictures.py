"""Upload hostile pictures to a real web process: it lives, refuses in a sentence, and stays within its memory."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.harness.processes import process_tree
from tests.support.hostile_pictures import all_hostile
from tests.support.stack import Stack, Uploader

LIMIT_KB = 768_000


@pytest.fixture
def web(home: Path) -> Iterator[Stack]:
    stack = Stack(home, UPLOAD_RATE="100000/minute")
    stack.start_web()
    yield stack
    stack.stop()


class PeakMemory(threading.Thread):
    """Measures the memory of a process and its children again and again, and keeps the highest."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self.most_kb = 0
        self._process, self._is_over = process, threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(0.05):
            family = process_tree(self._process)
            self.most_kb = max(self.most_kb, sum(map(proportional_kb, family)))

    def stop(self) -> None:
        self._is_over.set()
        self.join()


def proportional_kb(process: psutil.Process) -> int:
    with suppress(OSError):  # the process has ended
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def workers(web: psutil.Process) -> set[int]:
    return {child.pid for child in web.children()}


@pytest.mark.slow
def test_a_web_process_survives_every_hostile_picture_within_its_memory(web: Stack) -> None:
    process = psutil.Process(web.processes["web"].pid)
    before = workers(process)
    memory = PeakMemory(process)
    memory.start()
    uploader = Uploader(web)
    wrong = []
    for hostile in all_hostile():
        uploader.photo = hostile.make()
        response = uploader.upload("Mug", timeout=120)
        is_refused = response.status_code >= 400
        has_words = not is_refused or bool(response.json()["errors"][0]["detail"])
        if response.status_code >= 500 or not has_words or hostile.refused not in (None, is_refused):
            wrong.append(f"{hostile.name}: {response.status_code}")
    memory.stop()
    assert wrong == []
    assert workers(process) == before
    assert memory.most_kb <= LIMIT_KB
