"""Add everyday titles that are generated from the lexicon to the rows of a fit."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from training.datasets.corpus import concatenate_splits, make_rows
from training.everyday.texts import LabelledTitle, everyday_titles
from training.fit.job import Job, SplitTable, row_weights
from training.fit.recipes import TextRecipe

EVERYDAY = "everyday"


def add_everyday_titles(tables: dict[str, SplitTable], job: Job) -> dict[str, SplitTable]:
    """Return the tables with everyday titles among the training rows, and those held back among the validation rows.

    Titles of labels that the job lacks are left out. The test split stays as it is.
    """
    known = [each for each in everyday_titles() if each.category in job.labels]
    learnt = [each for each in known if not each.is_held_back]
    held_back = [each for each in known if each.is_held_back]
    added = {"train": _with_titles(tables["train"], learnt, job)}
    return tables | added | {"validation": _with_titles(tables["validation"], held_back, job)}


def _with_titles(table: SplitTable, titles: Sequence[LabelledTitle], job: Job) -> SplitTable:
    if not titles:
        return table
    column_of = {label: column for column, label in enumerate(job.labels)}
    columns = {
        "source": [EVERYDAY] * len(titles),
        "id": [str(number) for number in range(len(titles))],
        "label": [each.category for each in titles],
        "title": [each.title for each in titles],
        "description": [""] * len(titles),
    }
    sources = np.concatenate([table.sources, np.full(len(titles), EVERYDAY)])
    targets = np.concatenate([table.targets, np.array([column_of[each.category] for each in titles], np.int64)])
    learns = table.split == "train"
    class_power = job.recipe.class_power if learns else 0.0
    weights = row_weights(sources, targets, source_power=job.recipe.source_power, class_power=class_power)
    if learns and isinstance(job.recipe, TextRecipe):
        weights = weights * np.where(sources == EVERYDAY, np.float32(job.recipe.everyday_weight), np.float32(1))
    return replace(
        table,
        data=concatenate_splits([table.data, make_rows(table.data, columns)]),
        rows=np.concatenate([table.rows, len(table.data) + np.arange(len(titles))]),
        keys=np.concatenate([table.keys, np.array([f"{EVERYDAY}/{number}" for number in range(len(titles))])]),
        sources=sources,
        targets=targets,
        weights=weights / weights.mean(),
    )
