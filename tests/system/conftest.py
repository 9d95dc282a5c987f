"""Share one prepared home between all tests of whole systems."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from classifier.ml import engines
from classifier.ml.image_model import ImageModel
from classifier.ml.text_model import TextModel
from classifier.services import STARTER
from tests.support.homes import copy_home, made_once, prepare_home, share_networks
from tests.support.stack import Stack, add_demo


@pytest.fixture(scope="session")
def template() -> Path:
    """A prepared home, which tests copy."""
    return made_once("template", make_template)


def make_template(folder: Path) -> None:
    copy_home(made_once("prepared", prepare_home), folder)
    networks = share_networks(folder)
    # Converted here, for else the first workers of each stack would convert them side by side.
    names = engines.engine_candidates("auto", "f32", torch.device("cpu"), {})
    for model in (TextModel.load(STARTER / "text"), ImageModel.load(STARTER / "image")):
        engines.select_engine(model.encoder, names, threads=1, cache=networks)
    add_demo(folder)


def new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="home-", dir=os.environ["TEST_RUN_FOLDER"]))


@pytest.fixture
def empty_home() -> Path:
    """A home that nothing has prepared."""
    home = new_folder()
    share_networks(home)
    return home


@pytest.fixture
def home(template: Path) -> Path:
    return copy_home(template, new_folder())


@pytest.fixture(scope="module")
def module_home(template: Path) -> Path:
    return copy_home(template, new_folder())


@pytest.fixture
def stack(home: Path) -> Iterator[Stack]:
    """A prepared installation with its servers up and none of its processes."""
    stack = Stack(home)
    try:
        yield stack
    finally:
        stack.stop()
