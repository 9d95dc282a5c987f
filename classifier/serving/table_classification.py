"""Classify the rows of a product file with the live models, storing nothing."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from PIL import Image

from classifier.ml.classifier import ProductInput
from classifier.serving.batch import predict_many_now
from classifier.serving.inference import ModelFailed, top_five
from classifier.table_photos import read_row_photo
from common.tables.errors import RowError
from common.tables.reader import ProductFile, SourceRow
from common.text import clean_description, clean_line, clean_title

ROWS_AT_ONCE = 64

TableRow = SourceRow | tuple[int, RowError]


@dataclass(frozen=True)
class ClassifiedRow:
    """A row's five likeliest categories, and what kept it from an answer or its photo from being read."""

    line: int
    id: str
    top5: Sequence[dict[str, Any]] = ()
    fault: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what `classify --json-lines` writes; the fault only where there is one."""
        top5 = [{name: choice[name] for name in ("slug", "category", "probability")} for choice in self.top5]
        content: dict[str, Any] = {"id": self.id, "top5": top5}
        return content | {"fault": self.fault} if self.fault else content


@dataclass(frozen=True)
class _Input:
    """What the models read of a row, and why the row or its photo can't be read."""

    product: ProductInput
    fault: str = ""


def classify_table(
    products: ProductFile, *, progress: Callable[[int], None] = lambda rows: None
) -> Iterator[ClassifiedRow]:
    """Yield a result for each row, in the file's order; `progress` is called with the number of rows of each batch.

    A row without an id has its number among the rows as its id. Raises one of classifier.serving.inference.OUTAGES when
    no model can answer.
    """
    rows = iter(products)
    number = 0
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="photos") as workers:
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            inputs = list(workers.map(partial(_read_input, products), batch))
            answers = _answer([item.product for item in inputs])
            for row, item, answer in zip(batch, inputs, answers, strict=True):
                number += 1
                yield _classified(row, number, item, answer)
            progress(len(batch))


def _read_input(products: ProductFile, row: TableRow) -> _Input:
    if not isinstance(row, SourceRow):
        return _Input(ProductInput("", "", None), _fault(row[1]))
    photo: Image.Image | None = None
    fault = ""
    try:
        photo = read_row_photo(products, row)
    except RowError as error:
        fault = _fault(error)
    return _Input(ProductInput(clean_title(row.title), clean_description(row.description), photo), fault)


def _answer(products: Sequence[ProductInput]) -> list[list[dict[str, Any]] | str]:
    """Return the likeliest categories of each product, or why there are none."""
    places = [place for place, product in enumerate(products) if product.has_text or product.has_photo]
    found: list[list[dict[str, Any]] | str] = ["no title, no description and no photo"] * len(products)
    if not places:
        return found
    try:
        results, categories = predict_many_now([products[place] for place in places])
    except ModelFailed as error:
        if len(products) == 1:
            return [str(error)]
        # A product that breaks a model fails alone.
        return [answer for product in products for answer in _answer([product])]
    for place, result in zip(places, results, strict=True):
        found[place] = top_five(result.probabilities, categories)
    return found


def _classified(row: TableRow, number: int, item: _Input, answer: list[dict[str, Any]] | str) -> ClassifiedRow:
    if not isinstance(row, SourceRow):
        return ClassifiedRow(row[0], str(number), fault=f"line {row[0]}: {item.fault}")
    id = clean_line(row.id) or str(number)
    if isinstance(answer, str):
        return ClassifiedRow(row.line, id, fault=item.fault or answer)
    return ClassifiedRow(row.line, id, answer, item.fault)


def _fault(error: RowError) -> str:
    return f"{error.reason}: {error}"
