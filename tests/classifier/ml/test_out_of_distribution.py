"""Out-of-distribution inputs are detected, stored, and shown to sellers and staff."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.test import APIClient

from classifier.ml.out_of_distribution import CentroidDetector
from classifier.models import DistributionDetector, ModelVersion, Variant
from classifier.registry import detector_store, model_cache
from portal.models import Product, User
from tests.support.archive import archive_prediction, read_archived

MakeProduct = Callable[..., Product]


def of(modality: str) -> ModelVersion:
    return Variant.objects.get(version__modality=modality).version


def set_detector(modality: str, *, accepts_all: bool) -> None:
    """Give the live version a detector that flags nothing, or everything."""
    dim = {"text": 384, "image": 1280}[modality]
    limit = np.inf if accepts_all else -1.0
    steps = np.linspace(0, 1, 5, dtype=np.float32)
    detector_store.store_detector(
        of(modality), CentroidDetector(np.zeros((1, dim), np.float32), steps, steps, limit), {}
    )
    model_cache.unload_all()


@pytest.fixture(autouse=True)
def fresh_models() -> object:
    yield
    model_cache.unload_all()


@pytest.mark.parametrize(
    ("text", "image", "found"),
    [(True, True, ""), (False, True, "text"), (True, False, "image"), (False, False, "both")],
)
def test_an_out_of_distribution_input_is_flagged_on_the_prediction(
    seller: User, make_product: MakeProduct, text: bool, image: bool, found: str
) -> None:
    set_detector("text", accepts_all=text)
    set_detector("image", accepts_all=image)
    assert make_product(seller, photo=True).prediction.unusual == found


def test_the_seller_sees_a_notice_until_they_answer(
    browser: Client, seller: User, api: APIClient, make_product: MakeProduct
) -> None:
    set_detector("text", accepts_all=False)
    product = make_product(seller)
    words = "This text is unlike any product we know"
    assert words in browser.get(f"/products/{product.pk}/").content.decode()
    assert api.get(f"/api/v1/predictions/{product.prediction_id}").json()["unusual"] == "text"
    slug = product.prediction.best["slug"]
    api.post(f"/api/v1/predictions/{product.prediction_id}/feedback", {"category": slug}, format="json")
    assert words not in browser.get(f"/products/{product.pk}/").content.decode()


def test_the_archive_and_the_command_line_show_the_flag(
    seller: User, make_product: MakeProduct, capsys: pytest.CaptureFixture[str]
) -> None:
    set_detector("text", accepts_all=False)
    assert read_archived(archive_prediction(make_product(seller)), "ensemble.json")["unusual"] == "text"
    call_command("classify", title="Yamaha guitar")
    assert "Unusual for the models: text." in capsys.readouterr().out
    call_command("classify", title="Yamaha guitar", json=True)
    assert json.loads(capsys.readouterr().out)["unusual"] == "text"


def test_a_version_without_a_detector_flags_nothing(seller: User, make_product: MakeProduct) -> None:
    DistributionDetector.objects.all().delete()
    model_cache.unload_all()
    assert make_product(seller, photo=True).prediction.unusual == ""


def test_the_starters_come_with_detectors(seller: User, make_product: MakeProduct) -> None:
    assert {row.version.modality for row in DistributionDetector.objects.all()} == {"text", "image"}
    assert make_product(seller, title="Yamaha acoustic guitar with case").prediction.unusual == ""


def test_a_file_without_a_detector_is_refused(db: None, tmp_path: Path) -> None:
    (tmp_path / "wrong.safetensors").write_bytes(b"not at all")
    with pytest.raises(ValueError, match="doesn't hold a detector"):
        detector_store.import_detector(of("text"), tmp_path / "wrong.safetensors")


def test_no_detector_is_fitted_to_too_few_products(db: None) -> None:
    with pytest.raises(CommandError, match="too few imported examples"):
        call_command("learn_unusual", of("text").name)


def test_out_of_distribution_inputs_are_flagged_and_others_at_the_stated_rate() -> None:
    rng = np.random.default_rng(5)
    training, held, fresh = (rng.normal(size=(count, 12)).astype(np.float32) for count in (2_000, 2_000, 4_000))
    judge = CentroidDetector.fit(training, held, rng.uniform(0.5, 1, 2_000), quantile=0.98, centres=32)
    flagged = judge.flags(fresh, rng.uniform(0.5, 1, 4_000))
    assert 0.01 < flagged.mean() < 0.03
    far = rng.normal(4, 1, size=(50, 12)).astype(np.float32)
    assert judge.flags(far, np.full(50, 0.51)).all()
    scores = judge.score(np.vstack([far[:1], np.full((1, 12), np.nan)]), np.array([0.5, 0.5]))
    assert np.isfinite(scores[0])
    assert np.isnan(scores[1])
    assert not judge.flags(np.full((1, 12), np.nan), np.array([0.5])).any()
    assert not judge.flags(far[:, :8], np.full(50, 0.51)).any()  # another model's embeddings
    again = CentroidDetector.from_arrays(judge.arrays())
    kept, known = (each.score(fresh, np.full(4_000, 0.7)) for each in (again, judge))
    np.testing.assert_allclose(kept, known, rtol=0.03)  # its centres in half precision


def test_a_quantile_needs_enough_rows() -> None:
    some = np.zeros((50, 4), np.float32)
    with pytest.raises(ValueError, match="too few"):
        CentroidDetector.fit(some, some, np.full(50, 0.9), quantile=0.99)
