"""Read labelled products from csv files, stored examples or a corpus; photos are read on demand."""

import io
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from django.core.files.storage import storages
from PIL import Image

from classifier.ml.classifier import BatchOutput, Classifier, ProductInput
from classifier.modalities import MODALITIES
from classifier.models import Category
from classifier.table_photos import read_row_photo
from common.object_storage import storage_faults
from common.tables.errors import RowError
from common.tables.reader import ProductFile, SourceRow
from common.text import clean_description, clean_title
from training.datasets.category_lookup import CategoryLookup
from training.models import Example, Split

if TYPE_CHECKING:
    from datasets import Dataset

    from training.datasets.corpus import Corpus

ROWS_AT_ONCE = 64
SEED = 18
COLUMNS = ["title", "description", "label"]
HELD_BACK = (Split.TEST, Split.VALIDATION)


@dataclass(frozen=True)
class LabelledProduct:
    """A labelled product; `photo` reads it as a worker would, and returns None or raises RowError without one."""

    title: str
    description: str
    slug: str
    photo: Callable[[], Image.Image | None]


class Described(Protocol):
    """What has a title and a description."""

    @property
    def title(self) -> str: ...

    @property
    def description(self) -> str: ...


Asked = tuple[LabelledProduct, Image.Image | None]


def products_in_file(file: ProductFile, categories: CategoryLookup) -> Iterator[LabelledProduct]:
    """Yield the file's rows whose category is known."""
    slugs = dict(Category.objects.values_list("pk", "slug"))
    for row in file:
        try:
            if isinstance(row, SourceRow):
                slug = slugs[categories.find(row.category)]
                title, description = clean_title(row.title), clean_description(row.description)
                yield LabelledProduct(title, description, slug, partial(read_row_photo, file, row))
        except RowError:
            continue


def stored_products(modality: str = "", splits: Sequence[str] = HELD_BACK) -> Iterator[LabelledProduct]:
    """Yield the stored examples of these splits; of a modality, those that it can read."""
    examples = Example.objects.filter(split__in=splits).select_related("category")
    if modality:
        examples = examples.exclude(**MODALITIES[modality].empty_input)
    for example in examples.iterator():
        photo = partial(_stored, example.photo)
        yield LabelledProduct(example.title, example.description, example.category.slug, photo)


def products_in_corpus(corpus: "Corpus", modality: str, splits: Sequence[str] = HELD_BACK) -> Iterator[LabelledProduct]:
    """Yield the corpus's products of these splits that the modality can read."""
    entry = MODALITIES[modality]
    columns = [*COLUMNS, "photo"] if entry.reads_photo else COLUMNS
    for split in splits:
        rows = corpus.split(split, columns=columns, **entry.corpus_filter)
        for number, row in enumerate(rows.select_columns(COLUMNS)):
            yield LabelledProduct(
                row["title"] or "", row["description"] or "", row["label"], partial(_packed, rows, number)
            )


def count_in_corpus(corpus: "Corpus", modality: str, splits: Sequence[str] = HELD_BACK) -> int:
    return sum(corpus.count(split, **MODALITIES[modality].corpus_filter) for split in splits)


def sample_products(products: Iterable[LabelledProduct], count: int) -> list[LabelledProduct]:
    """Return `count` products, or all, chosen at random but the same each time, in any order."""
    chance = random.Random(SEED)  # noqa: S311
    chosen: list[LabelledProduct] = []
    for number, product in enumerate(products):
        if number < count:
            chosen.append(product)
        elif (place := chance.randrange(number + 1)) < count:
            chosen[place] = product
    return chosen


def product_batches(products: Iterable[LabelledProduct], modality: str, labels: Sequence[str]) -> Iterator[list[Asked]]:
    """Yield batches of the products that the modality can read and whose category is a label, with their photos."""
    entry, known, batch = MODALITIES[modality], set(labels), []
    for product in products:
        if product.slug not in known:
            continue
        try:
            photo = product.photo() if entry.reads_photo else None
        except RowError:
            continue
        if entry.accepts(ProductInput(product.title, product.description, photo)):
            batch.append((product, photo))
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def predict_products(model: Classifier, batch: Sequence[tuple[Described, Image.Image | None]]) -> BatchOutput:
    """Return a model's output for products and their photos."""
    return model.predict([ProductInput(product.title, product.description, photo) for product, photo in batch])


def _packed(rows: "Dataset", number: int) -> Image.Image | None:
    photo = rows[number]["photo"]
    return Image.open(io.BytesIO(photo)).convert("RGB") if photo else None


def _stored(name: str) -> Image.Image | None:
    if not name:
        return None
    try:
        with storage_faults(), storages["datasets"].open(name) as file:
            return Image.open(io.BytesIO(file.read())).convert("RGB")
    except FileNotFoundError as error:  # the example has been deleted since
        raise RowError("The photo is gone.") from error
