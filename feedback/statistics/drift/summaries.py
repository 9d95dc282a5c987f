"""Summarise a period for drift detection: counts that add up, and a random sample of its rows.

An hour takes a few hundred kilobytes of JSON, however many rows it had. Hours merge into exactly the summary
that one pass over all rows of the day would give.
"""

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from feedback.statistics.drift.codes import DriftColumn, current_code

Values = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float16]

BINS_PER_COLUMN = 64
SAMPLE_SIZE = 1_000


@dataclass(frozen=True)
class FeatureBatch:
    """A batch of n rows as columns. A missing value is NaN (in every dimension of a vector) or None.

    `numbers` hold (n,), `vectors` (n, dim), `categories` n names each. `ids` identify rows permanently and decide which
    rows are in the sample. Raises ValueError when a column has another length.
    """

    ids: Sequence[str]
    numbers: Mapping[str, npt.NDArray[np.floating[Any]]] = field(default_factory=dict)
    categories: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    vectors: Mapping[str, npt.NDArray[np.floating[Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for columns in (self.numbers, self.categories, self.vectors):
            for name, column in columns.items():
                if len(column) != len(self.ids):
                    raise ValueError(f"{name} has {len(column)} rows, not {len(self.ids)}")


@dataclass(frozen=True)
class BinLayout:
    """The edges of each number's bins, and how many rows a sample keeps. Only summaries of one layout can be merged."""

    edges: Mapping[str, tuple[float, ...]]
    keep: int = SAMPLE_SIZE

    @classmethod
    def of(cls, rows: FeatureBatch, *, bins: int = BINS_PER_COLUMN, keep: int = SAMPLE_SIZE) -> Self:
        """Return a layout whose bins hold about equally many of the given rows, those of the reference."""
        edges = {}
        for name, column in rows.numbers.items():
            known = _finite(column)
            cuts = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1))) if len(known) else np.empty(0)
            edges[name] = tuple(float(cut) for cut in cuts)
        return cls(edges, keep)

    def assign_bins(self, name: str, values: Values) -> npt.NDArray[np.intp]:
        """Return each value's bin: 0 up to the first edge, the last bin above the last edge."""
        return np.searchsorted(np.array(self.edges[name]), values, side="left")


@dataclass(frozen=True)
class Histogram:
    """The values of a number by bin: their counts (bins,) and sums (bins,), and the sum of all squares."""

    counts: npt.NDArray[np.int64]
    sums: Values
    squares: float

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def means(self) -> Values:
        """The mean of each bin; 0 where it is empty."""
        return np.asarray(self.sums / np.maximum(self.counts, 1))

    @property
    def deviation(self) -> float:
        """The standard deviation of all values; 0 without any."""
        if not self.total:
            return 0.0
        mean = float(self.sums.sum()) / self.total
        return math.sqrt(max(self.squares / self.total - mean**2, 0.0))

    def __add__(self, other: "Histogram") -> "Histogram":
        return Histogram(self.counts + other.counts, self.sums + other.sums, self.squares + other.squares)


@dataclass(frozen=True)
class RowSample:
    """The rows with the lowest keys, in order of key. A key is a hash of the id, so every pass keeps the same rows.

    This is bottom-k sampling (Cohen and Kaplan 2007, "Summarizing data using bottom-k sketches"): uniform, without
    replacement, and mergeable.
    """

    ids: list[str]
    numbers: dict[str, Values]
    categories: dict[str, list[str | None]]
    vectors: dict[str, Vectors]

    def merge(self, other: "RowSample", keep: int) -> "RowSample":
        """Return the `keep` rows with the lowest keys of both samples."""
        ids = [*self.ids, *other.ids]
        order = np.argsort(_keys(ids), kind="stable")[:keep]
        return RowSample(
            [ids[row] for row in order],
            {name: np.concatenate([mine, other.numbers[name]])[order] for name, mine in self.numbers.items()},
            {name: [(mine + other.categories[name])[r] for r in order] for name, mine in self.categories.items()},
            {name: np.concatenate([mine, other.vectors[name]])[order] for name, mine in self.vectors.items()},
        )


@dataclass(frozen=True)
class DriftSummary:
    """The rows of a period: how many, histograms of numbers, counts of categories, and a sample."""

    layout: BinLayout
    rows: int
    numbers: dict[str, Histogram]
    categories: dict[str, Counter[str]]
    sample: RowSample

    @classmethod
    def of(cls, rows: FeatureBatch, layout: BinLayout) -> Self:
        """Summarise a batch. Raises KeyError for a number that is not in the layout."""
        order = np.argsort(_keys(rows.ids), kind="stable")[: layout.keep]
        sample = RowSample(
            [str(rows.ids[row]) for row in order],
            {name: np.asarray(column, np.float64)[order] for name, column in rows.numbers.items()},
            {name: [column[row] for row in order] for name, column in rows.categories.items()},
            {name: np.asarray(column)[order].astype(np.float16) for name, column in rows.vectors.items()},
        )
        return cls(
            layout,
            len(rows.ids),
            {name: build_histogram(layout, name, column) for name, column in rows.numbers.items()},
            {name: Counter(x for x in column if x is not None) for name, column in rows.categories.items()},
            sample,
        )

    def merge(self, other: "DriftSummary") -> "DriftSummary":
        """Return the summary of both periods. Raises ValueError when their columns or bins differ."""
        if (self.layout, _names(self)) != (other.layout, _names(other)):
            raise ValueError("summaries of different columns or bins can't be merged")
        return DriftSummary(
            self.layout,
            self.rows + other.rows,
            {name: mine + other.numbers[name] for name, mine in self.numbers.items()},
            {name: mine + other.categories[name] for name, mine in self.categories.items()},
            self.sample.merge(other.sample, self.layout.keep),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain types: NaN as None, vectors as base64 of float16."""
        sample = self.sample
        return {
            "keep": self.layout.keep,
            "edges": {name: list(edges) for name, edges in self.layout.edges.items()},
            "rows": self.rows,
            "numbers": {
                name: {"counts": h.counts.tolist(), "sums": h.sums.tolist(), "squares": h.squares}
                for name, h in self.numbers.items()
            },
            "categories": {name: dict(counts) for name, counts in self.categories.items()},
            "sample": {
                "ids": sample.ids,
                "numbers": {
                    name: [value if math.isfinite(value) else None for value in column.tolist()]
                    for name, column in sample.numbers.items()
                },
                "categories": sample.categories,
                "vectors": {
                    name: {"dim": column.shape[1], "float16": base64.b64encode(column.tobytes()).decode()}
                    for name, column in sample.vectors.items()
                },
            },
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` of this or an older version wrote."""
        edges = {current_code(name): tuple(edges) for name, edges in content["edges"].items()}
        numbers = {}
        for name, stored in content["numbers"].items():
            rows, sums = np.array(stored["counts"], np.int64), np.array(stored["sums"], np.float64)
            numbers[current_code(name)] = Histogram(rows, sums, stored["squares"])
        categories: dict[str, Counter[str]] = {}
        for name, counted in content["categories"].items():
            values = _current_values(name, counted)
            counts = zip(values, counted.values(), strict=True)
            categories[current_code(name)] = Counter({value: count for value, count in counts if value is not None})
        return cls(
            BinLayout(edges, content["keep"]), content["rows"], numbers, categories, _read_sample(content["sample"])
        )


def _read_sample(content: Mapping[str, Any]) -> RowSample:
    vectors = {}
    for name, stored in content["vectors"].items():
        values = np.frombuffer(base64.b64decode(stored["float16"]), np.float16)
        vectors[current_code(name)] = values.reshape(-1, stored["dim"])
    return RowSample(
        list(content["ids"]),
        {current_code(name): np.array(column, np.float64) for name, column in content["numbers"].items()},
        {current_code(name): _current_values(name, column) for name, column in content["categories"].items()},
        vectors,
    )


def _current_values(column: str, values: Iterable[str | None]) -> list[str | None]:
    """Return the values of a category column; those of `inputs` were English words in older versions."""
    if current_code(column) != DriftColumn.INPUTS:
        return list(values)
    current: list[str | None] = []
    for value in values:
        current.append(None if value is None else current_code(value))
    return current


def _names(summary: DriftSummary) -> tuple[set[str], set[str], set[str]]:
    return set(summary.numbers), set(summary.categories), set(summary.sample.vectors)


def _keys(ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(str(id).encode(), digest_size=8).digest() for id in ids)
    return np.frombuffer(digests, np.uint64)


def _finite(column: npt.NDArray[np.floating[Any]]) -> Values:
    values = np.asarray(column, np.float64)
    return values[np.isfinite(values)]


def build_histogram(layout: BinLayout, name: str, column: npt.NDArray[np.floating[Any]]) -> Histogram:
    """Return the histogram of a number (n,) over the bins of a layout; NaN is left out."""
    values = _finite(column)
    bins, count = layout.assign_bins(name, values), len(layout.edges[name]) + 1
    return Histogram(
        np.bincount(bins, minlength=count).astype(np.int64),
        np.bincount(bins, weights=values, minlength=count).astype(np.float64),
        float(values @ values),
    )
