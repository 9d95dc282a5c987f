"""Does an engine answer as the reference does? Measured on labelled products and kept with the version."""

import io
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from django.conf import settings
from django.core.files.storage import storages
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from PIL import Image

from classifier import engines, loading
from classifier.backbones import pick_device
from classifier.models import Category, Modality, ModelVersion
from classifier.storage import storage_faults
from training.importing import Categories, small_copy
from training.models import Example, Split
from training.sources import ProductFile, RowError, SourceRow

if TYPE_CHECKING:
    from datasets import Dataset

    from training.corpus import Corpus

LEAST_ROWS = 2_000
LEAST_AGREEMENT = 0.995
MOST_LOST = 0.003  # of accuracy
ROWS_AT_ONCE = 64
SEED = 18
HELD_BACK = ("test", "validation")


@dataclass(frozen=True)
class Product:
    """A labelled product; its photo, as a worker would read it, when it is asked for: None or RowError without one."""

    title: str
    description: str
    slug: str
    photo: Callable[[], Image.Image | None]


@dataclass(frozen=True)
class Check:
    """How an engine's likeliest categories compare with the reference's on `n` products."""

    n: int
    agreement: float
    accuracy: float
    reference_accuracy: float

    def __str__(self) -> str:
        return _(
            "%(verdict)s: agrees on %(agreement)s of %(n)d products; right on %(own)s, the reference on %(its)s"
        ) % {
            "verdict": _("passed") if self.passed else _("failed"),
            "agreement": f"{self.agreement:.2%}",
            "n": self.n,
            "own": f"{self.accuracy:.2%}",
            "its": f"{self.reference_accuracy:.2%}",
        }

    @property
    def passed(self) -> bool:
        alike = self.agreement >= LEAST_AGREEMENT and self.reference_accuracy - self.accuracy <= MOST_LOST
        return self.n >= LEAST_ROWS and alike


def products_of(file: ProductFile, categories: Categories) -> Iterator[Product]:
    """Yield the file's rows whose category is known."""
    slugs = dict(Category.objects.values_list("pk", "slug"))
    for row in file:
        try:
            if isinstance(row, SourceRow):
                slug = slugs[categories.find(row.category)]
                yield Product(row.title.strip(), row.description.strip(), slug, partial(_photo, file, row))
        except RowError:
            continue


def stored_products() -> Iterator[Product]:
    """Yield the stored examples that no model was fitted to."""
    for example in Example.objects.exclude(split=Split.TRAIN).select_related("category").iterator():
        photo = partial(_stored, example.photo)
        yield Product(example.title, example.description, example.category.slug, photo)


def held_back(corpus: "Corpus", modality: str) -> Iterator[Product]:
    """Yield the corpus's products that no model was fitted to and that the modality can look at."""
    is_text, is_image = modality == Modality.TEXT, modality == Modality.IMAGE
    for split in HELD_BACK:
        rows = corpus.split(split, with_text=is_text, with_photo=is_image)
        for number, row in enumerate(rows.select_columns(["title", "description", "label"])):
            yield Product(row["title"] or "", row["description"] or "", row["label"], partial(_packed, rows, number))


def count_held_back(corpus: "Corpus", modality: str) -> int:
    is_text, is_image = modality == Modality.TEXT, modality == Modality.IMAGE
    return sum(corpus.count(split, with_text=is_text, with_photo=is_image) for split in HELD_BACK)


def sample(products: Iterable[Product], count: int) -> list[Product]:
    """Return `count` products, or all, chosen by chance but the same each time, in any order."""
    chance = random.Random(SEED)  # noqa: S311
    chosen: list[Product] = []
    for number, product in enumerate(products):
        if number < count:
            chosen.append(product)
        elif (place := chance.randrange(number + 1)) < count:
            chosen[place] = product
    return chosen


def compare(
    version: ModelVersion, products: Sequence[Product], *, least: int, progress: Callable[[int], None]
) -> dict[str, Check]:
    """Ask the reference and every engine of this machine about up to `least` products that the version can look at.

    Return each engine's check by its name; one that can't be built has none. Raises ArtifactError and StorageDown.
    """
    device = pick_device(loading.device_name())
    reference = loading.load_fresh(version, (f"torch f32 {device.type}",))
    kind = "openvino" if device.type == "cpu" else "torch"
    names = [f"{kind} {precision} {device.type}" for precision in engines.precisions(kind, device)]
    models = {name: loading.load_fresh(version, (name,)) for name in names if name != reference.engine}
    models = {name: model for name, model in models.items() if model.engine == name}
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*models, reference.engine)}
    targets: list[int] = []
    for batch in _batches(products, version.modality, reference.labels):
        batch = batch[: least - len(targets)]
        targets += [reference.labels.index(product.slug) for product, _photo in batch]
        for name, model in (*models.items(), (reference.engine, reference)):
            found[name].append(_ask(model, version.modality, batch))
        progress(len(batch))
        if len(targets) == least:
            break
    if not targets:
        return {}
    best = {name: np.concatenate(parts) for name, parts in found.items()}
    truth, wanted = np.array(targets), best[reference.engine]
    accuracy = float((wanted == truth).mean())
    return {
        name: Check(len(truth), float((best[name] == wanted).mean()), float((best[name] == truth).mean()), accuracy)
        for name in models
    }


@transaction.atomic
def record(version: ModelVersion, name: str, check: Check) -> None:
    """Keep the check with the version: workers go by it from their next batch on."""
    row = ModelVersion.objects.select_for_update().only("engines").get(pk=version.pk)
    row.engines[name] = {
        "library": engines.library(name),
        "n": check.n,
        "agreement": round(check.agreement, 5),
        "accuracy": round(check.accuracy, 5),
        "reference_accuracy": round(check.reference_accuracy, 5),
        "passed": check.passed,
        "checked_at": timezone.now().isoformat(timespec="seconds"),
    }
    row.save(update_fields=["engines"])


def _batches(
    products: Iterable[Product], modality: str, labels: Sequence[str]
) -> Iterator[list[tuple[Product, Image.Image | None]]]:
    known, batch = set(labels), []
    for product in products:
        if product.slug not in known:
            continue
        try:
            photo = product.photo() if modality == Modality.IMAGE else None
        except RowError:
            continue
        if photo or (modality == Modality.TEXT and (product.title or product.description)):
            batch.append((product, photo))
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _ask(model: Any, modality: str, batch: Sequence[tuple[Product, Image.Image | None]]) -> np.ndarray:
    if modality == Modality.TEXT:
        output = model.predict([p.title for p, _photo in batch], [p.description for p, _photo in batch])
    else:
        output = model.predict([photo for _product, photo in batch])
    best: np.ndarray = output.probabilities.argmax(axis=1)
    return best


def _packed(rows: "Dataset", number: int) -> Image.Image | None:
    photo = rows[number]["photo"]
    return Image.open(io.BytesIO(photo)).convert("RGB") if photo else None


def _photo(file: ProductFile, row: SourceRow) -> Image.Image | None:
    original = file.photo(row, limit=settings.UPLOAD_LIMIT_BYTES)
    return None if original is None else Image.open(io.BytesIO(small_copy(original))).convert("RGB")


def _stored(name: str) -> Image.Image | None:
    if not name:
        return None
    with storage_faults(), storages["datasets"].open(name) as file:
        return Image.open(io.BytesIO(file.read())).convert("RGB")
