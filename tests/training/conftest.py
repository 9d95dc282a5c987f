"""Share fixtures: a tiny corpus of real words and a drawn photo."""

from pathlib import Path

import pytest

from tests.support.photos import product_photo
from training.datasets.corpus import Corpus, CorpusRow, write_corpus

THINGS = {
    "beauty": ["lipstick", "face cream", "nail polish", "mascara"],
    "pet-supplies": ["dog leash", "cat food", "bird cage", "aquarium filter"],
    "musical-instruments": ["acoustic guitar", "violin bow", "drum sticks", "piano stool"],
}
BRANDS = ["Acme", "Borealis", "Cygnus", "Dorado", "Eridani"]
PARTS = ["train", "train", "validation", "test", "test"]


@pytest.fixture
def small_corpus(tmp_path: Path) -> Corpus:
    """60 products with text and photo: 24 for training, 12 for validation, 24 for test."""
    photo = product_photo(size=(256, 256))
    rows = [
        CorpusRow("shop", f"{label}-{number}-{brand}", f"{brand} {thing}", "", label, photo, "0" * 64, part)
        for label, things in THINGS.items()
        for number, thing in enumerate(things)
        for brand, part in zip(BRANDS, PARTS, strict=True)
    ]
    rows.sort(key=lambda row: ("train", "validation", "test").index(row.split))
    write_corpus(rows, tmp_path / "corpus", exclusions={})
    return Corpus(tmp_path / "corpus")
