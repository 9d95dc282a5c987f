import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from classifier.models import ModelVersion, Variant
from tests.support.photos import product_photo
from tests.support.product_files import import_table, write_table
from training.acceptance import engine_agreement
from training.acceptance.engine_agreement import EngineCheck
from training.models import Example

ROWS = [
    ["1", "Yamaha acoustic guitar with case", "", "musical-instruments", "mug.jpg"],
    ["2", "Red lipstick, long lasting", "Matt finish", "beauty", ""],
    ["3", "", "", "musical-instruments", "mug.jpg"],
    ["4", "Something else", "", "no such category", ""],
    ["5", "Dog leash for large dogs", "", "pet-supplies", "missing.jpg"],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path / "shop", ROWS)
    (tmp_path / "shop" / "mug.jpg").write_bytes(product_photo())
    return tmp_path / "shop"


def check(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    call_command("check_engine", *words, "--json")
    return json.loads(capsys.readouterr().out)


def of(modality: str) -> ModelVersion:
    return Variant.objects.get(version__modality=modality).version


def test_an_engine_is_compared_on_what_its_model_can_look_at(
    db: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = check(capsys, "--data", str(folder))
    text, image = (found[str(of(modality))]["openvino f32 cpu"] for modality in ("text", "image"))
    assert (text["n"], text["agreement"]) == (3, 1)
    assert (image["n"], image["agreement"]) == (2, 1)
    assert text["accuracy"] == text["reference_accuracy"] > 0.5


def test_too_few_products_prove_nothing_and_are_not_kept(
    db: None, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ModelVersion.objects.update(engines={})
    call_command("check_engine", of("text").name, "--data", str(folder))
    assert "needs 2,000 products" in capsys.readouterr().out
    assert of("text").engines == {}
    monkeypatch.setattr(engine_agreement, "MIN_ROWS", 3)
    monkeypatch.setattr("training.management.commands.check_engine.MIN_ROWS", 3)
    call_command("check_engine", of("text").name, "--data", str(folder))
    assert "passed" in capsys.readouterr().out
    kept = of("text").engines["openvino f32 cpu"]
    assert kept["passed"] is True and kept["n"] == 3 and kept["library"]


def test_imported_examples_are_used_without_a_folder(
    db: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_table(folder)
    Example.objects.update(split="test")
    assert check(capsys, of("image").name)[str(of("image"))]["openvino f32 cpu"]["n"] == 2


def test_unreadable_files_are_reported(db: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError):
        call_command("check_engine", "--data", str(tmp_path))
    with pytest.raises(CommandError, match="no model version"):
        call_command("check_engine", "nothing")


@pytest.mark.parametrize(
    ("n", "agreement", "accuracy", "passed"),
    [(2000, 0.995, 0.8, True), (2000, 0.994, 0.8, False), (1999, 1.0, 0.8, False), (2000, 0.996, 0.796, False)],
)
def test_the_bars_are_those_that_the_docs_state(n: int, agreement: float, accuracy: float, passed: bool) -> None:
    assert EngineCheck(n, agreement, accuracy, reference_accuracy=0.8).passed is passed
