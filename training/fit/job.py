"""Read WORKDIR/job.json and its corpus, and check both before anything is computed."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.datasets.corpus import Corpus, CorpusError, concatenate_splits, row_key
from training.fit.progress import FitError
from training.fit.recipes import Modality, Recipe

# The source of examples that sellers' accepted answers made: what a live model has not learnt yet.
FEEDBACK = "feedback"


@dataclass(frozen=True)
class Job:
    """What to fit: `start` is the artifact to continue from, `trials` the number of tuning trials before the fit.

    `replay` is a second corpus, of what the model to continue from must not forget: its training and validation rows
    are used beside those of `corpus`. `kept` names the labels that only `start` and `replay` know.
    """

    workdir: Path
    modality: Modality
    recipe: Recipe
    corpus: Path
    labels: tuple[str, ...]
    start: Path | None = None
    replay: Path | None = None
    kept: frozenset[str] = frozenset()
    trials: int = 0
    storage: str | None = None
    study: str | None = None

    @classmethod
    def read(cls, workdir: Path) -> "Job":
        """Read the job in `workdir`. Raises FitError that names what is wrong with it."""
        try:
            content = json.loads((workdir / "job.json").read_text(encoding="utf-8"))
            recipe = Recipe.from_json(content["recipe"])
            job = cls(
                workdir=workdir,
                modality=content["modality"],
                recipe=recipe,
                corpus=Path(content["corpus"]),
                labels=tuple(content["labels"]),
                start=Path(content["start"]) if content.get("start") else None,
                replay=Path(content["replay"]) if content.get("replay") else None,
                kept=frozenset(content.get("kept") or ()),
                trials=int(content.get("trials") or 0),
                storage=content.get("storage") or os.environ.get("AISLE_TUNING_STORAGE"),
                study=content.get("study"),
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise FitError(f"job.json in {workdir} is unusable: {error}") from error
        if job.modality != recipe.modality:
            raise FitError(f"The recipe is for {recipe.modality}, the job for {job.modality}.")
        return job

    def fingerprint(self, *settings: object) -> str:
        """Return a hash of everything that a stage's result depends on, so that no other job reads it."""
        content = [self.modality, str(self.corpus), self.labels, str(self.start), str(self.replay), *settings]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class SplitTable:
    """The rows of a split that the model can use: `rows` (n,) are their indices in `data`; weights have mean 1."""

    split: str
    data: Any  # datasets.Dataset
    rows: npt.NDArray[np.int64]
    keys: npt.NDArray[np.str_]
    sources: npt.NDArray[np.str_]
    targets: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, chosen: npt.NDArray[np.bool_]) -> "SplitTable":
        """Return the table with the chosen rows, (n,) bool, alone."""
        columns = ("rows", "keys", "sources", "targets", "weights")
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})


def read_tables(job: Job) -> dict[str, SplitTable]:
    """Return the three splits. Raises FitError, with what to do, when no model can come of them."""
    if len(job.labels) < 2:
        raise FitError(f"A model needs at least two categories; the data has {len(job.labels)}.")
    try:
        corpora = [Corpus(job.corpus)]
        replayed = [*corpora, Corpus(job.replay)] if job.replay else corpora
        # The test split measures the model on the dataset itself, so nothing is replayed there.
        tables = {
            "train": _split_table(job, replayed, "train"),
            "validation": _split_table(job, replayed, "validation"),
            "test": _split_table(job, corpora, "test"),
        }
    except (CorpusError, OSError, KeyError, ValueError) as error:
        raise FitError(f"The corpus in {job.corpus} cannot be read: {error}") from error
    kind = "text" if job.modality == "text" else "photo"
    for split, table in tables.items():
        if not len(table):
            raise FitError(f"The {split} split holds no product with a {kind} in one of the categories: import more.")
    counts = Counter(tables["train"].targets.tolist())
    tables["validation"] = tables["validation"].where(np.isin(tables["validation"].targets, list(counts)))
    if len(counts) < 2:
        raise FitError(
            f"All products with a {kind} in the training split are of one category; a model needs at least two."
        )
    for column, label in enumerate(job.labels):
        if label not in job.kept and counts[column] < job.recipe.least_rows:
            raise FitError(
                f"Category {label} has {counts[column]} products with a {kind} in the training split; at least "
                f"{job.recipe.least_rows} are needed. Import more, or merge it into another category."
            )
    return tables


def rows_of_mixed_sources(table: SplitTable) -> npt.NDArray[np.bool_]:
    """Return for each row, (n,), whether its source holds more than one category; all rows where none does.

    Only such sources can calibrate a model: in a source of clothing alone, recognising the source is enough.
    """
    is_mixed = np.zeros(len(table), bool)
    for source in np.unique(table.sources):
        of_source = table.sources == source
        is_mixed[of_source] = len(np.unique(table.targets[of_source])) > 1
    return is_mixed if is_mixed.any() else ~is_mixed


def row_weights(
    sources: npt.NDArray[np.str_], targets: npt.NDArray[np.int64], *, source_power: float, class_power: float
) -> npt.NDArray[np.float32]:
    """Return one weight for each row, (n,) float32 of mean 1; see Recipe."""
    if len(targets) == 0:
        return np.empty(0, np.float32)
    by_source = _inverse_mass(sources, np.ones(len(sources)), source_power)
    weights = by_source * _inverse_mass(targets, by_source, class_power)
    return np.asarray(weights / weights.mean(), np.float32)


def _inverse_mass(names: npt.NDArray[Any], mass: npt.NDArray[np.float64], power: float) -> npt.NDArray[np.float64]:
    """Return for each row (total mass of its name) ** -power."""
    _names, numbers = np.unique(names, return_inverse=True)
    return np.asarray(np.bincount(numbers, weights=mass)[numbers] ** -power, np.float64)


def _split_table(job: Job, corpora: Sequence[Corpus], split: str) -> SplitTable:
    columns = ["source", "id", "label", *(["title", "description"] if job.modality == "text" else ["photo"])]
    wanted = {"with_text": job.modality == "text", "with_photo": job.modality == "image"}
    data = concatenate_splits([corpus.split(split, columns=columns, **wanted) for corpus in corpora])
    column_of = {label: column for column, label in enumerate(job.labels)}
    labels = np.array(data["label"][:] if len(data) else [], object)
    rows = np.array([row for row, label in enumerate(labels) if label in column_of], np.int64)
    sources = np.array(data["source"][:], str)[rows] if len(data) else np.empty(0, str)
    ids = np.array(data["id"][:], str)[rows] if len(data) else np.empty(0, str)
    targets = np.array([column_of[label] for label in labels[rows]], np.int64)
    keys = np.array([row_key(*pair) for pair in zip(sources, ids, strict=True)], str)
    # Validation weighs every class as often as it occurs, as in serving.
    class_power = job.recipe.class_power if split == "train" else 0.0
    weights = row_weights(sources, targets, source_power=job.recipe.source_power, class_power=class_power)
    return SplitTable(split, data, rows, keys, sources, targets, weights)
