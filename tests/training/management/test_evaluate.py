import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from classifier.models import Prediction, Variant
from classifier.serving.batch import predict_now
from tests.support.photos import product_photo

Run = Callable[..., Any]
FIGURES = {"accuracy", "top5", "macro_f1", "log_loss", "ece"}
HEADER = ["id", "title", "description", "category", "image", "mapped18"]
ROWS = [
    ["1", "Yamaha acoustic guitar with case", "", "Guitars", "mug.jpg", "Musical Instruments"],
    ["2", "Red lipstick, long lasting", "Matt finish", "Make-up", "", "Beauty"],
    ["3", "", "", "Mugs", "mug.jpg", "musical-instruments"],
    ["4", "Something else", "", "Nowhere", "", "No such category"],
    ["5", "Dog leash for large dogs", "", "Dogs", "missing.jpg", "Pet Supplies"],
    ["6", "", "", "Dogs", "missing.jpg", "Pet Supplies"],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with (tmp_path / "products.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *ROWS])
    (tmp_path / "mug.jpg").write_bytes(product_photo())
    return tmp_path


@pytest.fixture
def evaluate(db: None, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(path: Path, *words: str) -> str:
        call_command("evaluate", str(path), "--category-column", "mapped18", *words)
        return capsys.readouterr().out

    return run


def test_every_view_is_scored_on_the_rows_that_it_can_answer(folder: Path, evaluate: Run) -> None:
    result = json.loads(evaluate(folder, "--json"))
    assert set(result) == {"rows", "skipped", "text", "image", "ensemble"}
    assert (result["rows"], result["skipped"]) == (4, 2)  # row 4 has no category, row 6 no input
    for view in ("text", "image", "ensemble"):
        assert set(result[view]) == FIGURES
    assert result["text"]["accuracy"] == 1.0
    assert not Prediction.objects.exists()


def test_the_answers_are_those_that_sellers_would_get(folder: Path, evaluate: Run) -> None:
    """One row only, so its log-loss tells what probability the live models gave."""
    from math import exp

    from classifier.management.commands.classify import open_photo

    with (folder / "products.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, ROWS[0]])
    result = json.loads(evaluate(folder, "--json"))
    answer, categories = predict_now(title=ROWS[0][1], description="", photo=open_photo(folder / "mug.jpg"))
    column = [category.slug for category in categories].index("musical-instruments")
    assert set(answer.outputs) == {"text", "image"}
    views = {modality: output.probabilities for modality, output in answer.outputs.items()}
    views["ensemble"] = answer.probabilities
    for view, probabilities in views.items():
        assert exp(-result[view]["log_loss"]) == pytest.approx(float(probabilities[column]), rel=1e-2)


def test_a_view_without_a_row_is_null(folder: Path, evaluate: Run) -> None:
    with (folder / "products.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, ROWS[1]])
    result = json.loads(evaluate(folder, "--json"))
    assert result["image"] is None
    assert result["text"] == result["ensemble"]
    assert "no row that it can read" in evaluate(folder)


def test_nothing_that_maps_leaves_every_view_null(folder: Path, evaluate: Run) -> None:
    with (folder / "products.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, ROWS[3]])
    result = json.loads(evaluate(folder, "--json"))
    assert result == {"rows": 0, "skipped": 1, "text": None, "image": None, "ensemble": None}


def test_the_table_says_what_was_left_out_and_the_limit_holds(folder: Path, evaluate: Run) -> None:
    table = evaluate(folder)
    assert "Left out: 2" in table and "unknown category 1" in table and "missing photo 2" in table
    assert "text starter" in table
    assert json.loads(evaluate(folder, "--json", "--limit", "2"))["rows"] == 2


def test_an_unusable_evaluation_is_refused_with_a_sentence(folder: Path, evaluate: Run) -> None:
    with pytest.raises(CommandError, match="There is no"):
        evaluate(folder / "nowhere")
    with pytest.raises(CommandError, match="at least 1"):
        evaluate(folder, "--limit", "0")
    Variant.objects.all().delete()
    with pytest.raises(CommandError, match="can't answer"):
        evaluate(folder)
