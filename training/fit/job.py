"""The work order: WORKDIR/job.json, checked against its corpus before anything is computed."""

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

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Job:
    """What to fit: `start` is the artifact to go on from, `trials` how many variations to try first.

    `replay` is a second corpus, of what the model to go on from must not forget: its training and validation rows are
    used beside those of `corpus`. `kept` names the labels that only `start` and `replay` know.
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
        """Return the job in `workdir`. Raises FitError that names what is wrong with it."""
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
        """Name what a stage's result follows from, so that none is taken over from another job."""
        content = [self.modality, str(self.corpus), self.labels, str(self.start), str(self.replay), *settings]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class SplitTable:
    """One split's rows that the model can use: `rows` (n,) are their places in `data`, weights have mean 1."""

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
        """Return the table without the rows that are not chosen, (n,) bool."""
        columns = ("rows", "keys", "sources", "targets", "weights")
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})


def read_tables(job: Job) -> dict[str, SplitTable]:
    """Return the three splits. Raises FitError, in words, when no model can come of them."""
    if len(job.labels) < 2:
        raise FitError(f"A model needs at least two categories; the data has {len(job.labels)}.")
    try:
        corpora = [Corpus(job.corpus)]
        replayed = [*corpora, Corpus(job.replay)] if job.replay else corpora
        # The test part measures what the data says and nothing else, so nothing is replayed there.
        tables = {split: _table(job, corpora if split == "test" else replayed, split) for split in SPLITS}
    except (CorpusError, OSError, KeyError, ValueError) as error:
        raise FitError(f"The corpus in {job.corpus} cannot be read: {error}") from error
    what = "text" if job.modality == "text" else "photo"
    for split, table in tables.items():
        if not len(table):
            raise FitError(f"The {split} part holds no product with a {what} in one of the categories: import more.")
    counts = Counter(tables["train"].targets.tolist())
    tables["validation"] = tables["validation"].where(np.isin(tables["validation"].targets, list(counts)))
    if len(counts) < 2:
        raise FitError(f"All products with a {what} in the training part are of one category: nothing to tell apart.")
    for place, label in enumerate(job.labels):
        if label not in job.kept and counts[place] < job.recipe.least_rows:
            raise FitError(
                f"Category {label} has {counts[place]} products with a {what} in the training part; at least "
                f"{job.recipe.least_rows} are needed. Import more, or merge it into another category."
            )
    return tables


def rows_of_mixed_sources(table: SplitTable) -> npt.NDArray[np.bool_]:
    """Return for each row, (n,), whether its source holds more than one category.

    Only such sources say how sure a model may be: where all is clothing, the look of the source answers. When no
    source holds several, all rows count.
    """
    several = np.zeros(len(table), bool)
    for source in np.unique(table.sources):
        here = table.sources == source
        several[here] = len(np.unique(table.targets[here])) > 1
    return several if several.any() else ~several


def row_weights(
    sources: npt.NDArray[np.str_], targets: npt.NDArray[np.int64], *, source_power: float, class_power: float
) -> npt.NDArray[np.float32]:
    """Return one weight a row, (n,) float32 of mean 1; see Recipe."""
    if len(targets) == 0:
        return np.empty(0, np.float32)
    by_source = _inverse(sources, np.ones(len(sources)), source_power)
    both = by_source * _inverse(targets, by_source, class_power)
    return np.asarray(both / both.mean(), np.float32)


def _inverse(names: npt.NDArray[Any], mass: npt.NDArray[np.float64], power: float) -> npt.NDArray[np.float64]:
    """Return for each row (total mass of its name) ** -power."""
    _, place = np.unique(names, return_inverse=True)
    return np.asarray(np.bincount(place, weights=mass)[place] ** -power, np.float64)


def _table(job: Job, corpora: Sequence[Corpus], split: str) -> SplitTable:
    columns = ["source", "id", "label", *(["title", "description"] if job.modality == "text" else ["photo"])]
    wanted = {"with_text": job.modality == "text", "with_photo": job.modality == "image"}
    data = concatenate_splits([corpus.split(split, columns=columns, **wanted) for corpus in corpora])
    place = {label: column for column, label in enumerate(job.labels)}
    labels = np.array(data["label"][:] if len(data) else [], object)
    rows = np.array([row for row, label in enumerate(labels) if label in place], np.int64)
    sources = np.array(data["source"][:], str)[rows] if len(data) else np.empty(0, str)
    ids = np.array(data["id"][:], str)[rows] if len(data) else np.empty(0, str)
    targets = np.array([place[label] for label in labels[rows]], np.int64)
    keys = np.array([row_key(*pair) for pair in zip(sources, ids, strict=True)], str)
    # What is validated is what will be asked: every class as often as it occurs.
    class_power = job.recipe.class_power if split == "train" else 0.0
    weights = row_weights(sources, targets, source_power=job.recipe.source_power, class_power=class_power)
    return SplitTable(split, data, rows, keys, sources, targets, weights)
