from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.core.management import call_command

from classifier.models import Category, DistributionDetector, Modality
from classifier.registry import model_cache, traffic
from classifier.serving.batch import predict_now
from tests.support.training_runs import import_folder, write_products
from training.datasets import labelled_products
from training.models import Example, Split

pytestmark = pytest.mark.django_db


def test_a_version_learns_from_imported_examples_and_flags_what_is_like_none_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_folder(write_products(tmp_path / "shop", count=500, photos=0))
    version = traffic.current_champion(Modality.TEXT)
    assert version is not None
    DistributionDetector.objects.all().delete()
    call_command("learn_unusual", version.name, out=tmp_path / "out")
    said = capsys.readouterr().out
    figures = DistributionDetector.objects.get(version=version).figures
    assert f"learnt from {figures['learnt_from']} products" in said
    assert figures["learnt_from"] > 2 * figures["held_back"] > 200
    assert figures["flagged"] <= 0.03
    assert (tmp_path / "out" / f"text-{version.checksum[:8]}.safetensors").exists()
    model_cache.unload_all()
    strange = ["Ersatzteil für Mähdrescher, gebraucht, an Bastler", "二手房出租", "0000 1111 2222 3333 4444 5555"]
    assert "text" in {predict_now(title=title, description="", photo=None)[0].unusual for title in strange}
    model_cache.unload_all()


def test_an_example_whose_photo_went_meanwhile_is_left_out(tmp_path: Path) -> None:
    import_folder(write_products(tmp_path / "shop", count=12, photos=12))
    here, gone = Example.objects.exclude(photo="")[:2]
    storages["datasets"].delete(gone.photo)
    products = labelled_products.stored_products(Modality.IMAGE, Split.values)
    slugs = list(Category.objects.values_list("slug", flat=True))
    (batch,) = labelled_products.product_batches(products, Modality.IMAGE, slugs)
    assert here.title in {product.title for product, _photo in batch}
    assert gone.title not in {product.title for product, _photo in batch}
