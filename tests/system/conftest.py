from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.stack import Stack


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("aisle")


@pytest.fixture
def stack(home: Path) -> Iterator[Stack]:
    """A prepared installation with its servers up and none of its processes."""
    stack = Stack(home)
    try:
        yield stack
    finally:
        stack.stop()
