import csv
import io
import json
import re
import zipfile
from itertools import product as pairs
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classifier.artifact import verify
from classifier.image import ImageModel
from classifier.text import TextModel
from training.starter import train_starter

COLOURS = {"Beauty": "pink", "Pet Supplies": "green", "Office Products": "blue"}
THINGS = {
    "Beauty": ["lipstick", "face cream", "nail polish", "mascara"],
    "Pet Supplies": ["dog leash", "cat food", "bird cage", "aquarium filter"],
    "Office Products": ["stapler", "fountain pen", "paper clips", "desk calendar"],
}
BRANDS = ["Acme", "Borealis", "Cygnus", "Dorado", "Eridani", "Fornax"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Starter models of a tiny shop, by the real backbones, and the figures printed."""
    root = tmp_path_factory.mktemp("shop")
    folder = root / "data" / "tiny"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# tiny\n\n- Source: made for this test.\n- Licence as found: none {needed}.\n")
    random = np.random.default_rng(3)
    with zipfile.ZipFile(folder / "images-000.zip", "w") as archive, (folder / "products.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "description", "category", "image", "subcategory", "mapped18", "shard"])
        for category, names in THINGS.items():
            for number, (name, brand) in enumerate(pairs(names, BRANDS)):
                member = f"images/{category}-{number}.png"
                size = (int(random.integers(20, 60)), int(random.integers(20, 60)))
                buffer = io.BytesIO()
                Image.new("RGB", size, COLOURS[category]).save(buffer, "PNG")
                archive.writestr(member, buffer.getvalue())
                title = f"{brand} {name}"
                writer.writerow([member, title, "", category, member, "", category, "images-000.zip"])
    figures = train_starter(root / "data", root / "out", cache=root / "cache", progress=lambda *_: None)
    return root / "out", figures


def test_the_ensemble_rule_names_its_pair_and_its_temperature(trained: tuple[Path, str]) -> None:
    out, _ = trained
    rule = json.loads((out / "ensemble.json").read_text())
    assert {name: rule[name] for name in ("text", "image")} == {name: verify(out / name) for name in ("text", "image")}
    assert rule["parameters"]["temperature"] > 0
    before, after = rule["metrics"]["mean"], rule["metrics"]["with temperature"]
    assert before["accuracy"] == after["accuracy"]
    assert before["n"] == after["n"] > 0


def test_the_artifacts_are_sealed_and_load(trained: tuple[Path, str]) -> None:
    out, _ = trained
    for modality in ("text", "image"):
        verify(out / modality)
    text = TextModel.load(out / "text", device="cpu")
    assert text.labels == ["beauty", "office-products", "pet-supplies"]
    assert text.predict(["cat collar"], [""]).probabilities[0].argmax() == 2
    image = ImageModel.load(out / "image", device="cpu")
    assert image.predict([Image.new("RGB", (30, 30), "blue")]).probabilities[0].argmax() == 1


def test_the_registered_accuracy_is_a_share(trained: tuple[Path, str]) -> None:
    for modality in ("text", "image"):
        metrics = json.loads((trained[0] / modality / "metrics.json").read_text())
        assert 0.5 < metrics["accuracy"] <= 1
        assert metrics["datasets"]["tiny"]["n"] == metrics["n"]
        assert sum(row["n"] for row in metrics["classes"].values()) == metrics["n"]


def test_the_card_names_the_licence_as_stated_and_leaves_no_gap(trained: tuple[Path, str]) -> None:
    for modality in ("text", "image"):
        card = (trained[0] / modality / "card.md").read_text()
        assert "Licence as found: none {needed}." in card
        assert not re.search(r"\{(?!needed)", card)


def test_the_figures_show_the_yardstick_and_the_ensemble(trained: tuple[Path, str]) -> None:
    assert "### Yardstick" in trained[1]
    assert "ensemble" in trained[1]
    assert trained[1].count("| tiny |") == 8
