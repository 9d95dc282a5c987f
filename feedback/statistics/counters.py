"""What is counted of a stretch of predictions: sums that add up, as JSON. Knows nothing of Django."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from feedback.statistics.intervals import Estimate, estimate_proportion, estimate_weighted_proportion
from feedback.statistics.performance_estimation import AccuracyEstimate, Calibrator, estimate_accuracy

RELIABILITY_BINS = 15  # of a reliability diagram, as in table 1 of Guo et al. 2017
BINS_PER_DOUBLING = 8  # bins to a doubling of the time: a percentile is right to some 5 %
CONFIDENCE_STEPS = 10 * RELIABILITY_BINS  # of confidence
EXAMPLES_PER_CELL = 5  # of a confusion, the surest ones
PAIR_SEPARATOR = "\t"  # the categories in the name of a confusion; no slug holds it
MODEL_NAMES = ("text", "image", "ensemble")
BREAKDOWNS = {"category": "categories", "cohort": "cohorts", "language": "languages"}  # by what: its name as stored
COHORTS = {"month": 30.0, "year": 365.0, "longer": math.inf}  # the days with Aisle that a cohort's sellers stay under
EMPTY_SUMS = (0.0,) * 5  # no row, summed up

Values = npt.NDArray[np.float64]


def seller_cohort(joined: datetime, asked: datetime) -> str:
    """Return the cohort by how long the seller had been here when the product was asked about."""
    days = (asked - joined) / timedelta(days=1)
    return next(name for name, most in COHORTS.items() if days < most)


class DurationHistogram(Counter[int]):
    """Milliseconds by their logarithm."""

    def note(self, milliseconds: float) -> None:
        self[round(BINS_PER_DOUBLING * math.log2(max(milliseconds, 1e-3)))] += 1

    def percentile(self, share: float) -> float | None:
        """Return the time that this share of them stays under, in milliseconds; None without any."""
        left = share * self.total()
        for step in sorted(self):
            left -= self[step]
            if left <= 0:
                return float(2 ** (step / BINS_PER_DOUBLING))
        return None


@dataclass
class PredictionCounts:
    """Predictions that were finished: how many, how fast, how sure, of what.

    `confidence`: {step: [rows, sum of their top probabilities]}, 150 steps. `wait` is the time from the question to the
    answer, `compute` a row's share of its batch's time. `by`: {breakdown: {value: rows}}. `unusual`: rows by what was
    unlike anything known, "" for nothing; only those that some model could judge.
    """

    done: int = 0
    failed: int = 0
    wait: DurationHistogram = field(default_factory=DurationHistogram)
    compute: DurationHistogram = field(default_factory=DurationHistogram)
    confidence: dict[int, list[float]] = field(default_factory=dict)
    by: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in BREAKDOWNS})
    unusual: Counter[str] = field(default_factory=Counter)

    def add(self, other: "PredictionCounts") -> None:
        self.done += other.done
        self.failed += other.failed
        for mine, theirs in zip(self._counters(), other._counters(), strict=True):
            mine.update(theirs)
        _add(self.confidence, other.confidence)

    def sure(self, confidence: float) -> None:
        _add(self.confidence, {confidence_step(confidence): [1, confidence]})

    def unlike(self) -> Estimate | None:
        """Return the share of inputs unlike anything known, of those that could be judged."""
        judged = self.unusual.total()
        return estimate_proportion(judged - self.unusual[""], judged)

    def _counters(self) -> tuple[Counter[Any], ...]:
        return self.wait, self.compute, self.unusual, *self.by.values()

    def to_json(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "failed": self.failed,
            "wait": dict(self.wait),
            "compute": dict(self.compute),
            "confidence": self.confidence,
            "unusual": dict(self.unusual),
            **{stored: dict(self.by[name]) for name, stored in BREAKDOWNS.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; what an older version of Aisle did not count yet is empty."""
        return cls(
            content.get("done", 0),
            content.get("failed", 0),
            DurationHistogram(_numbered(content.get("wait", {}))),
            DurationHistogram(_numbered(content.get("compute", {}))),
            _numbered(content.get("confidence", {})),
            {name: Counter(content.get(stored, {})) for name, stored in BREAKDOWNS.items()},
            Counter(content.get("unusual", {})),
        )


@dataclass
class AnswerCounts:
    """Counts of answers: the seller's choice stood first, among the five, or nowhere; reviewed, and then right."""

    answers: int = 0
    first: int = 0
    five: int = 0
    none: int = 0
    reviewed: int = 0
    right: int = 0

    def add(self, other: "AnswerCounts") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def share(self, name: str, of: str = "answers") -> Estimate | None:
        return estimate_proportion(getattr(self, name), getattr(self, of))


@dataclass
class AnswerStatistics:
    """What sellers and reviewers said of predictions. `by`: {breakdown: {value: tally}}.

    A reviewed row's weight w is 1 / its chance of being reviewed, so that weighted sums describe the traffic (see
    `quality.accuracy.weighted_share`); what review was aimed at has none and is in no weighted sum. `reliability`:
    {step of confidence: [reviewed rows, sums of w, of w * top probability and of w where it was right]}. `weighted`:
    [rows, sums of w, w^2, and of both where they were right] of the ensemble; the same of each model in `together`,
    on products that both models answered, and in `apart`, wherever it answered. `cells`: {true and given category:
    [rows, [[confidence, id], ...]]}, of all that was reviewed. `labels`: the categories that were chosen.
    """

    counts: AnswerCounts = field(default_factory=AnswerCounts)
    by: dict[str, dict[str, AnswerCounts]] = field(default_factory=lambda: {name: {} for name in BREAKDOWNS})
    reliability: dict[int, list[float]] = field(default_factory=dict)
    together: dict[str, list[float]] = field(default_factory=dict)
    apart: dict[str, list[float]] = field(default_factory=dict)
    weighted: list[float] = field(default_factory=lambda: [0.0] * 5)
    cells: dict[str, tuple[int, list[list[Any]]]] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, other: "AnswerStatistics") -> None:
        self.counts.add(other.counts)
        for name, tallies in other.by.items():
            for key, tally in tallies.items():
                self.by[name].setdefault(key, AnswerCounts()).add(tally)
        _add(self.reliability, other.reliability)
        _add(self.together, other.together)
        _add(self.apart, other.apart)
        self.labels.update(other.labels)
        self.weighted = [mine + theirs for mine, theirs in zip(self.weighted, other.weighted, strict=True)]
        for name, (count, examples) in other.cells.items():
            had, kept = self.cells.get(name, (0, []))
            self.cells[name] = (had + count, sorted([*kept, *examples], key=lambda each: -each[0])[:EXAMPLES_PER_CELL])

    def note(
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

        `inclusion_probability` is that of the random share, None for an answer that was chosen for review for a reason:
        only the random share is a sample of all traffic. `best` is the likeliest category of each model by itself.
        `is_none`: the seller chose "none of these". `chosen` is the final category; None, and every model is wrong,
        where a reviewer decided that no category fits.
        """
        right = int(is_reviewed and chosen is not None and chosen == given)
        tally = AnswerCounts(1, int(rank == 1), int(rank is not None), int(is_none), int(is_reviewed), right)
        self.counts.add(tally)
        for name, key in (("category", given), ("cohort", cohort), ("language", language)):
            self.by[name].setdefault(key, AnswerCounts()).add(tally)
        if chosen is not None:
            self.labels[chosen] += 1
        if not is_reviewed:
            return
        if inclusion_probability is not None:
            weight = 1 / inclusion_probability
            _add(self.reliability, {confidence_step(confidence): [1, weight, weight * confidence, weight * right]})
            self._weigh(weight, chosen, given, best)
        if chosen is None:
            return
        name = f"{chosen}{PAIR_SEPARATOR}{given}"
        count, examples = self.cells.get(name, (0, []))
        kept = sorted([*examples, [round(confidence, 4), id]], key=lambda each: -each[0])[:EXAMPLES_PER_CELL]
        self.cells[name] = (count + 1, kept)

    def accuracy(self) -> Estimate | None:
        """Return how often the ensemble was right in all traffic, by the random share of the review."""
        return estimate_weighted_proportion(*self.weighted)

    def by_model(self) -> dict[str, Estimate | None]:
        """Return each model's accuracy in the traffic that both answered."""
        return {name: estimate_weighted_proportion(*self.together.get(name, EMPTY_SUMS)) for name in MODEL_NAMES}

    def by_itself(self) -> dict[str, Estimate | None]:
        """Return each model's accuracy in the traffic that it answered, whether or not the other one did."""
        return {
            name: estimate_weighted_proportion(*self.apart.get(name, EMPTY_SUMS))
            for name in MODEL_NAMES
            if name != "ensemble"
        }

    def _weigh(self, weight: float, chosen: str | None, given: str, best: Mapping[str, str]) -> None:
        def sums(said: str) -> list[float]:
            right = int(said == chosen)
            return [1, weight, weight**2, weight * right, weight**2 * right]

        self.weighted = [mine + new for mine, new in zip(self.weighted, sums(given), strict=True)]
        _add(self.apart, {name: sums(said) for name, said in best.items()})
        if {"text", "image"} <= best.keys():
            _add(self.together, {name: sums(said) for name, said in {**best, "ensemble": given}.items()})

    def to_json(self) -> dict[str, Any]:
        return {
            "tally": _list(self.counts),
            **{
                stored: {key: _list(tally) for key, tally in self.by[name].items()}
                for name, stored in BREAKDOWNS.items()
            },
            "reliability": self.reliability,
            "together": self.together,
            "apart": self.apart,
            "weighted": self.weighted,
            "cells": {name: [count, examples] for name, (count, examples) in self.cells.items()},
            "labels": dict(self.labels),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; what an older version of Aisle did not count yet, or otherwise, is empty."""
        if not content:
            return cls()
        return cls(
            AnswerCounts(*content["tally"]),
            {
                name: {key: AnswerCounts(*tally) for key, tally in content.get(stored, {}).items()}
                for name, stored in BREAKDOWNS.items()
            },
            _numbered(content["reliability"]),
            {name: list(sums) for name, sums in content.get("together", {}).items()},
            {name: list(sums) for name, sums in content.get("apart", {}).items()},
            list(content["weighted"]),
            {name: (count, examples) for name, (count, examples) in content["cells"].items()},
            Counter(content["labels"]),
        )


@dataclass(frozen=True)
class ReliabilityBin:
    """One bar of a reliability diagram: the rows whose confidence lies in [low, high), and what came of them."""

    low: float
    high: float
    rows: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class ReliabilityDiagram:
    """The bins, and the expected calibration error: the bins' |accuracy - confidence|, weighted by their rows."""

    bins: list[ReliabilityBin]
    error: float


def confidence_step(confidence: float) -> int:
    return min(int(confidence * CONFIDENCE_STEPS), CONFIDENCE_STEPS - 1)


def reliability_diagram(reliability: Mapping[int, Sequence[float]]) -> ReliabilityDiagram | None:
    """Return how honest the top probabilities of reviewed rows are: Guo et al. 2017, equation 3, equally wide bins.

    None without a row.
    """
    if not reliability:
        return None
    sums = np.zeros((RELIABILITY_BINS, 4))
    for step, entry in reliability.items():
        sums[step * RELIABILITY_BINS // CONFIDENCE_STEPS] += entry
    bins = [
        ReliabilityBin(
            b / RELIABILITY_BINS,
            (b + 1) / RELIABILITY_BINS,
            int(rows),
            sure / mass if rows else None,
            right / mass if rows else None,
        )
        for b, (rows, mass, sure, right) in enumerate(sums.tolist())
    ]
    return ReliabilityDiagram(bins, float(np.abs(sums[:, 3] - sums[:, 2]).sum() / sums[:, 1].sum()))


def fit_calibrator(reliability: Mapping[int, Sequence[float]]) -> Calibrator | None:
    """Return what recalibrates confidence, fitted to reviewed rows at their steps' means; None with too few."""
    sure: list[float] = []
    right: list[bool] = []
    for rows, mass, total, hits in reliability.values():
        sure += [total / mass] * int(rows)
        right_rows = round(rows * hits / mass)
        right += [True] * right_rows + [False] * (int(rows) - right_rows)
    # Within a step the order is nobody's: sorted by confidence its right rows must not all come first.
    order = np.random.default_rng(18).permutation(len(sure))
    return Calibrator.fit(np.array(sure)[order], np.array(right, bool)[order])


def estimate_from_histogram(confidence: Mapping[int, Sequence[float]], known: Calibrator) -> AccuracyEstimate | None:
    """Return the accuracy to expect of a stretch, by the mean confidence of each step."""
    if not confidence:
        return None
    rows, sums = np.array(list(confidence.values()), np.float64).T
    return estimate_accuracy(sums / rows, known, rows)


def _add(mine: dict[Any, list[float]], theirs: Mapping[Any, Sequence[float]]) -> None:
    for name, entry in theirs.items():
        had = mine.get(name)
        mine[name] = [a + b for a, b in zip(had, entry, strict=True)] if had else list(entry)


def _list(tally: AnswerCounts) -> list[int]:
    return list(vars(tally).values())


def _numbered(content: Mapping[str, Any]) -> dict[int, Any]:
    """JSON's names are text."""
    return {int(name): value for name, value in content.items()}
