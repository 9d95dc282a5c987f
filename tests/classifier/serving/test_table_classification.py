import csv
import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.support.photos import product_photo
from tests.support.product_files import write_table, write_zip

pytestmark = pytest.mark.django_db

ROWS = [
    ("1", "Yamaha acoustic guitar with case", "", "guitar.jpg"),
    ("", "<b>Dog leash</b> &amp; collar", "nylon", ""),
    ("=cmd()", "Lipstick, matte red", "", "gone.jpg"),
    ("4", "nan", "", ""),
    ("5", "", "", "GUITAR.JPG"),
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    columns = ("SKU", "Product Name", "Body (HTML)", "Image")
    folder = write_table(tmp_path / "shop", ROWS, columns=columns)
    write_zip(folder / "photos.zip", {"export/Guitar.jpg": product_photo()})
    with (folder / "products.csv").open("a") as file:
        file.write('6,"never closed,,\n7,Wooden toy train,,\n')
    return folder


def test_every_row_has_a_line_in_the_files_order(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("classify", table, "--json-lines")
    out, err = capsys.readouterr()
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["id"] for answer in answers] == ["1", "2", "=cmd()", "4", "5", "6", "7"]
    assert [len(answer["top5"]) for answer in answers] == [5, 5, 5, 0, 5, 0, 5]
    assert [answer.get("fault", "").partition(":")[0] for answer in answers] == [
        "", "", "missing photo", "no title, no description and no photo", "", "line 7", "",
    ]  # fmt: skip
    assert "unclosed quotation mark" in answers[5]["fault"]
    assert [list(choice) for choice in answers[0]["top5"]] == [["slug", "category", "probability"]] * 5
    assert answers[0]["top5"][0]["slug"] == "musical-instruments" and answers[1]["top5"][0]["slug"] == "pet-supplies"
    assert "100%" in err and "7 rows, 2 without a result, 1 without their photo." in err


def test_a_table_is_written_to_a_file_that_a_spreadsheet_may_open(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    call_command("classify", table, "--out", out)
    with out.open() as file:
        answers = list(csv.DictReader(file))
    assert [answer["id"] for answer in answers] == ["1", "2", "'=cmd()", "4", "5", "6", "7"]
    assert (answers[0]["slug1"], answers[0]["category1"]) == ("musical-instruments", "Musical Instruments")
    assert float(answers[0]["probability1"]) > float(answers[0]["probability5"]) > 0
    assert answers[3]["slug1"] == "" and answers[3]["fault"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["answers.csv"]


def test_a_row_of_a_table_is_answered_as_the_product_alone(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("classify", table, "--json-lines")
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    call_command("classify", "--title", "Wooden toy train", "--json")
    alone = json.loads(capsys.readouterr().out)
    assert [choice["slug"] for choice in last["top5"]] == [choice["slug"] for choice in alone["top5"]]


def test_what_can_not_be_classified_says_why(table: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "other", [("1", "x")], columns=("id", "colour"))
    with pytest.raises(CommandError, match="--column title=NAME"):
        call_command("classify", tmp_path / "other")
    call_command("classify", tmp_path / "other", "--column", "title=colour", "--out", tmp_path / "out.csv")
    with pytest.raises(CommandError, match="not both"):
        call_command("classify", table, "--title", "Mug")
    with pytest.raises(CommandError, match="are for a file"):
        call_command("classify", "--title", "Mug", "--json-lines")
    with pytest.raises(CommandError, match="There is no"):
        call_command("classify", tmp_path / "nowhere.csv")
    with pytest.raises(CommandError, match="can't be written"):
        call_command("classify", table, "--out", tmp_path / "nowhere" / "out.csv")
