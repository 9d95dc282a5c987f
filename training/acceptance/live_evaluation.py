"""Measure the live models on labelled products, answered as sellers' products are."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from classifier.ml.classifier import ProductInput
from classifier.models import Category
from classifier.serving.batch import predict_many_now
from classifier.serving.inference import PredictionResult
from classifier.table_photos import read_row_photo
from common.tables.errors import RowError
from common.tables.reader import ProductFile, SourceRow
from common.text import clean_description, clean_title
from training.acceptance.metrics import Metrics, compute_metrics
from training.datasets.category_lookup import CategoryLookup

ROWS_AT_ONCE = 64
FIGURES = ("accuracy", "top5", "macro_f1", "log_loss", "ece")
VIEWS = ("text", "image", "ensemble")


@dataclass
class _View:
    """The predictions of one model, or of the ensemble, for the products that it can answer."""

    probabilities: list[np.ndarray] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def add(self, probabilities: np.ndarray, target: int) -> None:
        self.probabilities.append(probabilities.astype(np.float32))
        self.targets.append(target)

    def figures(self) -> Metrics | None:
        """Return the metrics; None without a product."""
        if not self.targets:
            return None
        return compute_metrics(np.stack(self.probabilities), np.array(self.targets, np.int64))


@dataclass
class LiveScores:
    """The figures of each view (None without a row), and for each reason how many rows were left out."""

    views: dict[str, Metrics | None]
    rows: int
    skipped: Counter[str]
    without_photo: Counter[str]

    def to_json(self) -> dict[str, Any]:
        views = {
            name: figures and {figure: figures[figure] for figure in FIGURES} for name, figures in self.views.items()
        }
        return {"rows": self.rows, "skipped": self.skipped.total(), **views}


def score_products(
    products: ProductFile,
    *,
    categories: CategoryLookup,
    limit: int | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> LiveScores:
    """Ask the live models about every row whose category is known, or the first `limit` rows, and measure them.

    A photo that is missing or broken is none: the text alone answers then. Memory holds one batch of photos, and some
    100 bytes a row for the answers. Raises one of classifier.serving.inference.OUTAGES when no model can answer.
    """
    views = {name: _View() for name in VIEWS}
    skipped: Counter[str] = Counter()
    without_photo: Counter[str] = Counter()
    slugs = list(Category.objects.order_by("slug").values_list("pk", flat=True))
    place = {pk: column for column, pk in enumerate(slugs)}
    rows = islice(iter(products), limit)
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="photos") as workers:
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            known = list(_known(batch, categories, skipped))
            photos = workers.map(lambda item: _photo(products, item[0]), known)
            inputs, targets = [], []
            for (row, category), photo in zip(known, photos, strict=True):
                if isinstance(photo, RowError):
                    # A broken photo does not keep the text model from answering.
                    without_photo[photo.reason] += 1
                    photo = None
                product = ProductInput(clean_title(row.title), clean_description(row.description), photo)
                if not product.has_text and not product.has_photo:
                    skipped["no input"] += 1
                    continue
                inputs.append(product)
                targets.append(place[category])
            if inputs:
                _add(views, predict_many_now(inputs)[0], targets)
            progress(len(batch))
    figures = {name: view.figures() for name, view in views.items()}
    return LiveScores(figures, len(views["ensemble"].targets), skipped, without_photo)


def _known(
    batch: list[SourceRow | tuple[int, RowError]], categories: CategoryLookup, skipped: Counter[str]
) -> Iterator[tuple[SourceRow, int]]:
    for row in batch:
        try:
            if not isinstance(row, SourceRow):
                raise row[1]
            yield row, categories.find(row.category)
        except RowError as error:
            skipped[error.reason] += 1


def _photo(products: ProductFile, row: SourceRow) -> Image.Image | RowError | None:
    """Return the small copy that an upload would leave for the models, the reason why there is none, or None."""
    try:
        return read_row_photo(products, row)
    except RowError as error:
        return error


def _add(views: dict[str, _View], answers: list[PredictionResult], targets: list[int]) -> None:
    for answer, target in zip(answers, targets, strict=True):
        for modality, output in answer.outputs.items():
            views[modality].add(output.probabilities, target)
        views["ensemble"].add(answer.probabilities, target)
