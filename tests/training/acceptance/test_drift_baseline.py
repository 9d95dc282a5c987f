from pathlib import Path

import pytest

from classifier.models import Modality, ModelVersion
from classifier.registry import traffic
from feedback.models import DriftReference
from feedback.monitoring import baselines as stored
from tests.support.training_runs import import_folder, write_products
from training import tasks
from training.acceptance import drift_baseline
from training.datasets import snapshots
from training.models import Dataset


@pytest.fixture
def dataset(db: None, tmp_path: Path) -> Dataset:
    import_folder(write_products(tmp_path / "made-up", count=120, photos=40))
    return snapshots.make_dataset()


def serving(modality: Modality) -> ModelVersion:
    return traffic.live_variants(modality)[0].version


def test_starters_have_no_snapshot_to_be_compared_with(dataset: Dataset) -> None:
    assert list(drift_baseline.pairs_without_baseline()) == []


def test_versions_with_a_snapshot_are_compared_with_its_held_back_products(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_baseline, "MIN_ROWS", 20)
    text, image = serving(Modality.TEXT), serving(Modality.IMAGE)
    ModelVersion.objects.filter(pk=text.pk).update(lineage={"dataset": dataset.checksum})
    assert [(found[0], found[1], found[2]) for found in drift_baseline.pairs_without_baseline()] == [
        (text, image, dataset)
    ]
    tasks.write_references()
    row = DriftReference.objects.get()
    assert row.origin == "snapshot" and (row.text_version, row.image_version) == (text, image)
    known = stored.load_baseline((text.pk, image.pk))
    assert known is not None
    splits = dataset.manifest["splits"]
    held_back = splits["test"]["rows"] + splits["validation"]["rows"]
    assert known.summary.rows == held_back == known.summary.categories["label"].total()
    assert known.summary.categories["inputs"]["text"] > 0
    assert set(known.projections) <= {"text", "image"} and "text" in known.projections
    assert list(drift_baseline.pairs_without_baseline()) == []
    tasks.write_references()
    assert DriftReference.objects.count() == 1


def test_a_snapshot_with_few_products_makes_no_reference(dataset: Dataset) -> None:
    assert drift_baseline.write_baseline(serving(Modality.TEXT), serving(Modality.IMAGE), dataset) is None
