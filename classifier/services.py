"""Prepare an installation: categories, starter models and the reference set. Safe to run again."""

import csv
import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import transaction

from classifier.ml import artifact
from classifier.ml.artifact import ArtifactError
from classifier.models import (
    Category,
    CategoryAlias,
    CategorySearchTerm,
    DistributionDetector,
    EnsembleRule,
    Modality,
    ModelVersion,
    ReferenceProduct,
    Variant,
)
from classifier.registry import deployments, detector_store, versions
from classifier.taxonomy.product_nouns import product_nouns
from common.object_storage import StorageDown, storage_faults

HERE = Path(__file__).parent
STARTER = HERE / "starter"
STARTER_NAME = "starter"
# What `manage.py check_engine` measured of the starters, by checksum, and the detectors of `manage.py learn_unusual`.
STARTER_ENGINES = HERE / "starter_engines.json"
STARTER_DETECTORS = HERE / "starter_familiar"
STARTER_REFERENCE = STARTER / "reference"


@transaction.atomic
def load_categories() -> int:
    """Create the categories and aliases of categories.json that are missing; return how many categories there are.

    Categories that staff renamed, added or switched off stay as they are, and so do search terms: each category gets
    those that come with Aisle once.
    """
    for slug, entry in json.loads((HERE / "categories.json").read_text()).items():
        category, _created = Category.objects.get_or_create(slug=slug, defaults={"name": entry["name"]})
        for alias in entry.get("aliases", []):
            if not CategoryAlias.objects.filter(name__iexact=alias).exists():
                CategoryAlias.objects.create(category=category, name=alias)
    _add_starter_terms()
    return Category.objects.count()


def _add_starter_terms() -> None:
    """Add product nouns as search terms to the categories that have not had them yet."""
    nouns = product_nouns()
    waiting = list(Category.objects.select_for_update().filter(slug__in=nouns, has_starter_terms=False))
    terms = [CategorySearchTerm(category=category, term=noun) for category in waiting for noun in nouns[category.slug]]
    CategorySearchTerm.objects.bulk_create(terms, ignore_conflicts=True)
    Category.objects.filter(pk__in=[category.pk for category in waiting]).update(has_starter_terms=True)


def register_starters() -> list[Variant]:
    """Register the starter models; deploy them where nothing, or only an older starter, is live.

    A starter that was deployed before is not deployed again: staff may have rolled it back.
    """
    versions = {modality: _register_starter(STARTER / modality) for modality in Modality.values}
    for modality, version in versions.items():
        in_use = Variant.objects.filter(version__modality=modality)
        is_new = not version.deployments.exists()
        only_starters = not in_use.exclude(version__name__startswith=STARTER_NAME).exists()
        if not in_use.exists() or (is_new and only_starters):
            deployments.deploy_version(version)
    rule = json.loads((STARTER / "ensemble.json").read_text())
    if all(rule[modality] == version.checksum for modality, version in versions.items()):
        EnsembleRule.objects.get_or_create(
            text_version=versions["text"],
            image_version=versions["image"],
            defaults={name: rule[name] for name in ("kind", "parameters", "metrics")},
        )
    return list(Variant.objects.select_related("version"))


def fill_missing_labels() -> None:
    """Store the labels of versions whose row has none, as their artifacts hold them.

    A version whose artifact can't be read now is left for the next run.
    """
    for version in ModelVersion.objects.filter(labels=[]).defer("metrics"):
        with suppress(ArtifactError, StorageDown):
            versions.read_labels(version)


@transaction.atomic
def load_reference_products() -> int:
    """Create or replace the reference products that come with Aisle; return how many reference products there are.

    Products of a category that doesn't exist are left out. Raises StorageDown when a photo can't be stored.
    """
    known = {
        (each.external_id, each.part, each.title, each.description, each.category_id, each.photo_digest): each
        for each in ReferenceProduct.objects.filter(origin=ReferenceProduct.Origin.STARTER)
    }
    fresh, kept = [], set()
    for product in _starter_products():
        key = (
            product.external_id, product.part, product.title, product.description, product.category_id,
            product.photo_digest,
        )  # fmt: skip
        if key in known:
            kept.add(known[key].pk)
        else:
            _store_reference_photo(product)
            fresh.append(product)
    ReferenceProduct.objects.filter(origin=ReferenceProduct.Origin.STARTER).exclude(pk__in=kept).delete()
    ReferenceProduct.objects.bulk_create(fresh)
    return ReferenceProduct.objects.count()


def _starter_products() -> Iterator[ReferenceProduct]:
    categories = dict(Category.objects.values_list("slug", "pk"))
    with (STARTER_REFERENCE / "products.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["category"] not in categories:
                continue
            photo = (STARTER_REFERENCE / "photos" / row["photo"]).read_bytes() if row["photo"] else b""
            digest = hashlib.sha256(photo).hexdigest() if photo else ""
            yield ReferenceProduct(
                origin=ReferenceProduct.Origin.STARTER,
                source=STARTER_NAME,
                external_id=row["id"],
                part=row["part"],
                title=row["title"],
                description=row["description"],
                category_id=categories[row["category"]],
                photo=f"reference/{row['photo']}" if photo else "",
                photo_digest=digest,
            )


def _store_reference_photo(product: ReferenceProduct) -> None:
    if not product.photo:
        return
    content = (STARTER_REFERENCE / "photos" / Path(product.photo).name).read_bytes()
    storage = storages[product.photo_storage]
    # Compared by size, without downloading: `prepare` runs at every start.
    with storage_faults(), suppress(FileNotFoundError):
        if storage.size(product.photo) == len(content):
            return
        storage.delete(product.photo)
    with storage_faults():
        storage.save(product.photo, ContentFile(content))


def _register_starter(folder: Path) -> ModelVersion:
    checksum = artifact.verify_artifact(folder)
    version = versions.register_version(folder, name=f"{STARTER_NAME} {checksum[:8]}")
    checks = json.loads(STARTER_ENGINES.read_text()).get(checksum)
    if checks and not version.engines:
        version.engines = checks
        version.save(update_fields=["engines"])
    # A detector that the installation has fitted itself is better than the one that comes with Aisle.
    file = STARTER_DETECTORS / detector_store.detector_file_name(version)
    if file.exists() and not DistributionDetector.objects.filter(version=version).exists():
        detector_store.import_detector(version, file)
    return version
