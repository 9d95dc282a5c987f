"""Count predictions and answers of a period, as sums that add up over periods and are stored as JSON."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

from feedback.statistics.calibration import ConfidenceSums, ReliabilitySums, confidence_step, read_reliability
from feedback.statistics.intervals import (
    Estimate,
    WeightedSums,
    estimate_proportion,
    estimate_weighted_proportion,
)

BINS_PER_DOUBLING = 8  # of a duration: a percentile is accurate to about 5 %
EXAMPLES_PER_CELL = 5  # of a confusion, those with the highest confidence
PAIR_SEPARATOR = "\t"  # between the two categories in a stored confusion's key; no slug contains it
MODEL_NAMES = ("text", "image", "ensemble")
BREAKDOWNS = {"category": "categories", "cohort": "cohorts", "language": "languages"}  # with their stored keys
COHORTS = {"month": 30.0, "year": 365.0, "longer": math.inf}  # by days since the seller joined, below these limits

Key = TypeVar("Key", bound=Hashable)
Sums = TypeVar("Sums", ConfidenceSums, ReliabilitySums, WeightedSums)


def seller_cohort(joined: datetime, asked: datetime) -> str:
    """Return the cohort of a seller, by the days from joining to a product's upload."""
    days = (asked - joined) / timedelta(days=1)
    return next(name for name, limit in COHORTS.items() if days < limit)


class DurationHistogram(Counter[int]):
    """Durations by bins of equal width on a logarithmic scale, eight to each doubling."""

    def add_duration(self, milliseconds: float) -> None:
        self[round(BINS_PER_DOUBLING * math.log2(max(milliseconds, 1e-3)))] += 1

    def percentile(self, share: float) -> float | None:
        """Return the duration in milliseconds that this share of the rows does not exceed; None without a row."""
        remaining = share * self.total()
        for step in sorted(self):
            remaining -= self[step]
            if remaining <= 0:
                return float(2 ** (step / BINS_PER_DOUBLING))
        return None


def _empty_counters() -> dict[str, Counter[str]]:
    return {name: Counter() for name in BREAKDOWNS}


@dataclass
class PredictionCounts:
    """Finished predictions: their number, durations, confidence and categories.

    `wait` is the time from upload to result, `compute` a row's share of its batch's computing time. `confidence` is
    keyed by step (see `confidence_step`), `by_breakdown` by breakdown and value. `unusual` counts the rows for which
    some model could tell, by the input that is out-of-distribution: "text", "image", "both", or "" for neither.
    """

    done: int = 0
    failed: int = 0
    wait: DurationHistogram = field(default_factory=DurationHistogram)
    compute: DurationHistogram = field(default_factory=DurationHistogram)
    confidence: dict[int, ConfidenceSums] = field(default_factory=dict)
    by_breakdown: dict[str, Counter[str]] = field(default_factory=_empty_counters)
    unusual: Counter[str] = field(default_factory=Counter)

    def add(self, other: "PredictionCounts") -> None:
        self.done += other.done
        self.failed += other.failed
        self.wait.update(other.wait)
        self.compute.update(other.compute)
        self.unusual.update(other.unusual)
        for name, counter in self.by_breakdown.items():
            counter.update(other.by_breakdown[name])
        _add_sums(self.confidence, other.confidence)

    def add_confidence(self, confidence: float) -> None:
        """Count the top probability of one prediction."""
        _add_sums(self.confidence, {confidence_step(confidence): ConfidenceSums(1, confidence)})

    def unusual_share(self) -> Estimate | None:
        """Return the share of out-of-distribution inputs among those for which a model could tell."""
        judged = self.unusual.total()
        return estimate_proportion(judged - self.unusual[""], judged)

    def to_json(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "failed": self.failed,
            "wait": dict(self.wait),
            "compute": dict(self.compute),
            "confidence": _to_lists(self.confidence),
            "unusual": dict(self.unusual),
            **{stored: dict(self.by_breakdown[name]) for name, stored in BREAKDOWNS.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote. Counts that an older version of Aisle did not keep are empty."""
        return cls(
            done=content.get("done", 0),
            failed=content.get("failed", 0),
            wait=DurationHistogram(_with_integer_keys(content.get("wait", {}))),
            compute=DurationHistogram(_with_integer_keys(content.get("compute", {}))),
            confidence=_from_lists(_with_integer_keys(content.get("confidence", {})), ConfidenceSums),
            by_breakdown={name: Counter(content.get(stored, {})) for name, stored in BREAKDOWNS.items()},
            unusual=Counter(content.get("unusual", {})),
        )


@dataclass
class AnswerCounts:
    """Answers by the rank of the seller's choice (1, among the five, or "none of these"), and reviewed ones."""

    answers: int = 0
    first: int = 0
    five: int = 0
    none: int = 0
    reviewed: int = 0
    right: int = 0

    def add(self, other: "AnswerCounts") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def proportion(self, name: str, of: str = "answers") -> Estimate | None:
        """Return one count as a proportion of another."""
        return estimate_proportion(getattr(self, name), getattr(self, of))

    def to_json(self) -> list[int]:
        """Return the counts in the order in which summaries store them."""
        return list(vars(self).values())


@dataclass(frozen=True)
class ConfusionExample:
    """A reviewed prediction behind a cell of the confusion matrix."""

    confidence: float
    id: str


@dataclass(frozen=True)
class ConfusionCell:
    """Reviewed rows of one true and one predicted category, and those of them with the highest confidence."""

    rows: int = 0
    examples: tuple[ConfusionExample, ...] = ()

    def __add__(self, other: "ConfusionCell") -> "ConfusionCell":
        examples = sorted([*self.examples, *other.examples], key=lambda example: -example.confidence)
        return ConfusionCell(self.rows + other.rows, tuple(examples[:EXAMPLES_PER_CELL]))

    def to_json(self) -> list[Any]:
        """Return the cell as summaries store it: [rows, [[confidence, id], ...]]."""
        return [self.rows, [[example.confidence, example.id] for example in self.examples]]

    @classmethod
    def from_json(cls, content: Sequence[Any]) -> Self:
        rows, examples = content
        return cls(rows, tuple(ConfusionExample(confidence, id) for confidence, id in examples))


def _empty_answer_counts() -> dict[str, dict[str, AnswerCounts]]:
    return {name: {} for name in BREAKDOWNS}


@dataclass
class AnswerStatistics:
    """Answers of sellers and decisions of reviewers, in the period in which their predictions were finished.

    Weighted sums cover the random share alone, each row with the weight 1 / inclusion probability, so that they
    describe all traffic; answers that were chosen for review for a reason are in no weighted sum. `ensemble` holds
    those of the ensemble, `on_common_products` those of each model where both models answered, `by_model` those of each
    model wherever it answered. `reliability` is keyed by step of confidence; `confusions`, of everything reviewed, by
    true and predicted category; `labels` by final category.
    """

    counts: AnswerCounts = field(default_factory=AnswerCounts)
    by_breakdown: dict[str, dict[str, AnswerCounts]] = field(default_factory=_empty_answer_counts)
    reliability: dict[int, ReliabilitySums] = field(default_factory=dict)
    on_common_products: dict[str, WeightedSums] = field(default_factory=dict)
    by_model: dict[str, WeightedSums] = field(default_factory=dict)
    ensemble: WeightedSums = field(default_factory=WeightedSums)
    confusions: dict[tuple[str, str], ConfusionCell] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, other: "AnswerStatistics") -> None:
        self.counts.add(other.counts)
        for name, counts_by_value in other.by_breakdown.items():
            for value, counts in counts_by_value.items():
                self.by_breakdown[name].setdefault(value, AnswerCounts()).add(counts)
        _add_sums(self.reliability, other.reliability)
        _add_sums(self.on_common_products, other.on_common_products)
        _add_sums(self.by_model, other.by_model)
        self.ensemble += other.ensemble
        for pair, cell in other.confusions.items():
            self.confusions[pair] = self.confusions.get(pair, ConfusionCell()) + cell
        self.labels.update(other.labels)

    def add_answer(
        self,
        id: str,
        *,
        given: str,
        confidence: float,
        language: str,
        cohort: str,
        rank: int | None,
        is_none: bool,
        chosen: str | None,
        is_reviewed: bool,
        inclusion_probability: float | None,
        best: Mapping[str, str],
    ) -> None:
        """Count one answer.

        `given` is the ensemble's likeliest category and `best` that of each model by itself. `rank` is that of the
        seller's choice among the five suggestions, None for another category; `is_none`: the seller chose "none of
        these". `chosen` is the final category; None, and every model is wrong, where a reviewer decided that no
        category fits. `inclusion_probability` is that of the random share, None for an answer that was chosen for
        review for a reason: only the random share is a sample of all traffic.
        """
        is_correct = is_reviewed and chosen is not None and chosen == given
        counts = AnswerCounts(
            answers=1,
            first=int(rank == 1),
            five=int(rank is not None),
            none=int(is_none),
            reviewed=int(is_reviewed),
            right=int(is_correct),
        )
        self.counts.add(counts)
        for name, value in (("category", given), ("cohort", cohort), ("language", language)):
            self.by_breakdown[name].setdefault(value, AnswerCounts()).add(counts)
        if chosen is not None:
            self.labels[chosen] += 1
        if not is_reviewed:
            return
        if inclusion_probability is not None:
            self._add_weighted(1 / inclusion_probability, chosen, given, confidence, best)
        if chosen is not None:
            cell = ConfusionCell(1, (ConfusionExample(round(confidence, 4), id),))
            self.confusions[chosen, given] = self.confusions.get((chosen, given), ConfusionCell()) + cell

    def _add_weighted(
        self, weight: float, chosen: str | None, given: str, confidence: float, best: Mapping[str, str]
    ) -> None:
        """Add a row of the random share to all weighted sums."""
        is_correct = given == chosen
        row = ReliabilitySums.from_row(weight, confidence, is_correct=is_correct)
        _add_sums(self.reliability, {confidence_step(confidence): row})
        ensemble = WeightedSums.from_row(weight, is_correct=is_correct)
        models = {name: WeightedSums.from_row(weight, is_correct=category == chosen) for name, category in best.items()}
        self.ensemble += ensemble
        _add_sums(self.by_model, models)
        if {"text", "image"} <= best.keys():
            _add_sums(self.on_common_products, {**models, "ensemble": ensemble})

    def ensemble_accuracy(self) -> Estimate | None:
        """Return the ensemble's accuracy in all traffic."""
        return estimate_weighted_proportion(self.ensemble)

    def accuracy_on_common_products(self) -> dict[str, Estimate | None]:
        """Return the accuracy of text model, image model and ensemble on products that both models answered."""
        empty = WeightedSums()
        return {name: estimate_weighted_proportion(self.on_common_products.get(name, empty)) for name in MODEL_NAMES}

    def accuracy_by_model(self) -> dict[str, Estimate | None]:
        """Return the accuracy of text model and image model on all products that each answered."""
        empty = WeightedSums()
        return {name: estimate_weighted_proportion(self.by_model.get(name, empty)) for name in ("text", "image")}

    def to_json(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "tally": self.counts.to_json(),
            "reliability": _to_lists(self.reliability),
            "together": _to_lists(self.on_common_products),
            "apart": _to_lists(self.by_model),
            "weighted": self.ensemble.to_json(),
            "cells": {PAIR_SEPARATOR.join(pair): cell.to_json() for pair, cell in self.confusions.items()},
            "labels": dict(self.labels),
        }
        for name, stored in BREAKDOWNS.items():
            content[stored] = {value: counts.to_json() for value, counts in self.by_breakdown[name].items()}
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote. Counts that an older version of Aisle kept otherwise, or not at all, are empty."""
        if not content:
            return cls()
        return cls(
            counts=AnswerCounts(*content["tally"]),
            by_breakdown={
                name: {value: AnswerCounts(*counts) for value, counts in content.get(stored, {}).items()}
                for name, stored in BREAKDOWNS.items()
            },
            reliability=read_reliability(content["reliability"]),
            on_common_products=_from_lists(content.get("together", {}), WeightedSums),
            by_model=_from_lists(content.get("apart", {}), WeightedSums),
            ensemble=WeightedSums(*content["weighted"]),
            confusions={_split_pair(key): ConfusionCell.from_json(cell) for key, cell in content["cells"].items()},
            labels=Counter(content["labels"]),
        )


def _add_sums(mine: dict[Key, Sums], theirs: Mapping[Key, Sums]) -> None:
    for key, sums in theirs.items():
        mine[key] = mine[key] + sums if key in mine else sums


def _to_lists(sums_by_key: Mapping[Key, ConfidenceSums | ReliabilitySums | WeightedSums]) -> dict[Key, list[float]]:
    return {key: sums.to_json() for key, sums in sums_by_key.items()}


def _from_lists(content: Mapping[Key, Sequence[float]], make: Callable[..., Sums]) -> dict[Key, Sums]:
    return {key: make(*values) for key, values in content.items()}


def _with_integer_keys(content: Mapping[str, Any]) -> dict[int, Any]:
    """Return a mapping with integer keys: JSON stores keys as text."""
    return {int(name): value for name, value in content.items()}


def _split_pair(key: str) -> tuple[str, str]:
    true, given = key.split(PAIR_SEPARATOR)
    return true, given
