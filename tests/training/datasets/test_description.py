import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from portal.models import User
from tests.support.product_files import import_table, plain_jpeg, write_table
from training.datasets import description as describing
from training.datasets.snapshots import make_dataset
from training.models import Dataset, Example

pytestmark = pytest.mark.django_db

WORDS = {"Beauty": "lipstick mascara cream perfume rouge", "Pet Supplies": "dog leash cat litter aquarium"}
WRONG = "mascara lipstick perfume rouge kennel"


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two categories that their words tell apart, and one lipstick among the pets."""
    folder = tmp_path / "shop"
    rows: list[tuple[object, ...]] = [("wrong", WRONG, "", "Pet Supplies", "")]
    for number in range(80):
        name = ("Beauty", "Pet Supplies")[number % 2]
        words = WORDS[name].split()
        letters = "".join(chr(97 + int(digit)) * 2 for digit in f"{number:02}")
        image = "1.jpg" if number == 1 else ""
        rows.append((number, f"{words[number % 5]} {words[number % 3]} {letters} {letters[::-1]}q", "", name, image))
    write_table(folder, rows)
    (folder / "1.jpg").write_bytes(plain_jpeg())
    import_table(folder)
    return make_dataset()


def test_a_dataset_is_described_in_figures(dataset: Dataset) -> None:
    found = describing.describe_dataset(dataset)
    assert found["texts"]["title"]["percentiles"]["50"] == 4
    assert sum(bar["rows"] for bar in found["texts"]["title"]["histogram"]) == 81
    assert found["missing"] == {"title": 0, "description": 81, "text": 0, "photo": 80}
    assert found["sources"] == {"shop": {"rows": 81, "with_photo": 1, "with_text": 81}}
    assert [picture["key"] for picture in found["pictures"]] == ["shop/1"]
    assert Dataset.objects.get().description == json.loads(json.dumps(found))


def test_a_label_against_all_words_is_suspicious(dataset: Dataset) -> None:
    found = describing.describe_dataset(dataset)["suspicious"]
    assert found["checked"] == 81
    worst = found["rows"][0]
    assert (worst["key"], worst["given"], worst["suggested"]) == ("shop/wrong", "pet-supplies", "beauty")


def test_a_sample_is_checked_and_the_note_says_so(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describing, "MOST_CHECKED", 40)
    found = describing.describe_dataset(dataset)["suspicious"]
    assert 30 <= found["checked"] <= 45
    assert "of 81" in found["note"]


def test_the_command_prints_tables_or_json(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("describe_dataset")
    out = capsys.readouterr().out
    assert "pet-supplies" in out and "Suspected label errors" in out and "Left out" in out
    call_command("describe_dataset", dataset.checksum[:12], json=True)
    assert json.loads(capsys.readouterr().out)["checksum"] == dataset.checksum
    with pytest.raises(CommandError, match="no dataset 9999"):
        call_command("describe_dataset", "9999")


def test_without_a_dataset_the_command_says_how_to_make_one(db: None) -> None:
    with pytest.raises(CommandError, match="make_dataset"):
        call_command("describe_dataset")


def test_the_page_shows_it_to_data_scientists_only(
    dataset: Dataset, client: Client, scientist: User, seller: User
) -> None:
    page = f"/admin/training/dataset/{dataset.pk}/change/"
    photo = f"/admin/training/example/photo/{Example.objects.exclude(photo='').get().photo_digest}/"
    client.force_login(seller)
    assert client.get(page).status_code == client.get(photo).status_code == 302
    client.force_login(scientist)
    assert "Not described yet" in client.get(page).content.decode()
    describing.describe_dataset(dataset)
    shown = client.get(page).content.decode()
    assert (
        WRONG in shown
        and "Class balance" in shown
        and photo in shown
        and " style=" not in shown.split("aisle-report")[1][:5000]
    )
    answer = client.get(photo)
    assert answer.status_code == 200 and answer["Content-Type"] == "image/jpeg"
    assert client.get(f"/admin/training/example/photo/{'0' * 64}/").status_code == 404
    assert client.get("/admin/training/example/photo/secret/").status_code == 404
    for path in ("/admin/training/dataset/", "/admin/training/example/?q=wrong", "/admin/training/example/"):
        assert client.get(path).status_code == 200
    scientist.groups.clear()
    assert client.get(photo).status_code == 404
