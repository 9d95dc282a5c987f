from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from django.conf import settings

from classifier.ml import engines
from classifier.ml.image_model import ImageModel
from classifier.ml.text_model import TextModel
from classifier.services import STARTER
from tests.support.stack import Stack, with_networks


@pytest.fixture(scope="session")
def converted() -> Path:
    """The starters' converted networks, made once: each installation would take seconds for its own."""
    folder = Path(settings.MODEL_CACHE) / "engines"
    names = engines.engine_candidates("auto", "f32", torch.device("cpu"), {})
    for model in (TextModel.load(STARTER / "text"), ImageModel.load(STARTER / "image")):
        engines.select_engine(model.encoder, names, threads=1, cache=folder)
    return folder


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, converted: Path) -> Path:
    return with_networks(tmp_path_factory.mktemp("aisle"), converted)


@pytest.fixture
def stack(home: Path) -> Iterator[Stack]:
    """A prepared installation with its servers up and none of its processes."""
    stack = Stack(home)
    try:
        yield stack
    finally:
        stack.stop()
