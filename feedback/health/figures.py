"""What is counted of a stretch of predictions: sums that add up, as JSON. Knows nothing of Django."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from feedback.quality.accuracy import BINS, Bin, Calibration, Estimate, share_of, weighted_share
from feedback.quality.estimated import Calibrator, Expected, expected_accuracy

OCTAVE = 8  # bins to a doubling of the time: a percentile is right to some 5 %
STEPS = 10 * BINS  # of confidence
EXAMPLES = 5  # of a confusion, the surest ones
BETWEEN = "\t"  # the categories in the name of a confusion; no slug holds it
MODELS = ("text", "image", "ensemble")

Values = npt.NDArray[np.float64]


class Times(Counter[int]):
    """Milliseconds by their logarithm."""

    def note(self, milliseconds: float) -> None:
        self[round(OCTAVE * math.log2(max(milliseconds, 1e-3)))] += 1

    def percentile(self, share: float) -> float | None:
        """Return the time that this share of them stays under, in milliseconds; None without any."""
        left = share * self.total()
        for step in sorted(self):
            left -= self[step]
            if left <= 0:
                return float(2 ** (step / OCTAVE))
        return None


@dataclass
class Volume:
    """Predictions that were finished: how many, how fast, how sure, of what.

    `confidence`: {step: [rows, sum of their top probabilities]}, 150 steps. `wait` is the time from the question to the
    answer, `compute` a row's share of its batch's time.
    """

    done: int = 0
    failed: int = 0
    wait: Times = field(default_factory=Times)
    compute: Times = field(default_factory=Times)
    confidence: dict[int, list[float]] = field(default_factory=dict)
    categories: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Volume") -> None:
        self.done += other.done
        self.failed += other.failed
        for mine, theirs in zip(self._counters(), other._counters(), strict=True):
            mine.update(theirs)
        _add(self.confidence, other.confidence)

    def sure(self, confidence: float) -> None:
        _add(self.confidence, {step_of(confidence): [1, confidence]})

    def _counters(self) -> tuple[Counter[Any], ...]:
        return self.wait, self.compute, self.categories, self.languages

    def to_json(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "failed": self.failed,
            "wait": dict(self.wait),
            "compute": dict(self.compute),
            "confidence": self.confidence,
            "categories": dict(self.categories),
            "languages": dict(self.languages),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(
            content.get("done", 0),
            content.get("failed", 0),
            Times(_numbered(content.get("wait", {}))),
            Times(_numbered(content.get("compute", {}))),
            _numbered(content.get("confidence", {})),
            Counter(content.get("categories", {})),
            Counter(content.get("languages", {})),
        )


@dataclass
class Tally:
    """Answers that count: the seller's choice stood first, among the five, or nowhere; reviewed, and then right."""

    answers: int = 0
    first: int = 0
    five: int = 0
    none: int = 0
    reviewed: int = 0
    right: int = 0

    def add(self, other: "Tally") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def share(self, name: str, of: str = "answers") -> Estimate | None:
        return share_of(getattr(self, name), getattr(self, of))


@dataclass
class Answers:
    """What sellers and reviewers said of predictions, by the category that was predicted and by language.

    A reviewed row's weight w is 1 / its chance of being reviewed, so that weighted sums describe the traffic (see
    `quality.accuracy.share`). `reliability`: {step of confidence: [reviewed rows, sums of w, of w * top probability and
    of w where it was right]}. `weighted`: [rows, sums of w, w^2, and of both where they were right]. `models`: how
    often each was right on the `both` reviewed products that both models answered; `alone`: {model: [reviewed rows, how
    many it got right]}. `cells`: {true and given category: [rows, [[confidence, id], ...]]}. `labels`: the categories
    that were chosen.
    """

    tally: Tally = field(default_factory=Tally)
    categories: dict[str, Tally] = field(default_factory=dict)
    languages: dict[str, Tally] = field(default_factory=dict)
    reliability: dict[int, list[float]] = field(default_factory=dict)
    both: int = 0
    models: Counter[str] = field(default_factory=Counter)
    alone: dict[str, list[float]] = field(default_factory=dict)
    weighted: list[float] = field(default_factory=lambda: [0.0] * 5)
    cells: dict[str, tuple[int, list[list[Any]]]] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Answers") -> None:
        self.tally.add(other.tally)
        for mine, theirs in ((self.categories, other.categories), (self.languages, other.languages)):
            for name, tally in theirs.items():
                mine.setdefault(name, Tally()).add(tally)
        _add(self.reliability, other.reliability)
        _add(self.alone, other.alone)
        self.both += other.both
        self.models.update(other.models)
        self.labels.update(other.labels)
        self.weighted = [mine + theirs for mine, theirs in zip(self.weighted, other.weighted, strict=True)]
        for name, (count, examples) in other.cells.items():
            had, kept = self.cells.get(name, (0, []))
            self.cells[name] = (had + count, sorted([*kept, *examples], key=lambda each: -each[0])[:EXAMPLES])

    def note(
        self,
        id: str,
        *,
        given: str,
        confidence: float,
        language: str,
        rank: int | None,
        chosen: str | None,
        is_reviewed: bool,
        inclusion: float | None,
        best: Mapping[str, str],
    ) -> None:
        """Count one answer.

        `inclusion` is the chance with which it came into the random share of the review, None for what review was aimed
        at: only the share is a sample of all traffic. `best` is what each model that answered held for likeliest alone.
        """
        is_known = is_reviewed and chosen is not None
        right = int(is_known and chosen == given)
        tally = Tally(1, int(rank == 1), int(rank is not None), int(chosen is None), int(is_known), right)
        self.tally.add(tally)
        self.categories.setdefault(given, Tally()).add(tally)
        self.languages.setdefault(language, Tally()).add(tally)
        if chosen is not None:
            self.labels[chosen] += 1
        if not is_known:
            return
        _add(self.alone, {name: [1, int(said == chosen)] for name, said in best.items()})
        if {"text", "image"} <= best.keys():
            self.both += 1
            self.models.update(name for name, said in {**best, "ensemble": given}.items() if said == chosen)
        if inclusion is not None:
            weight = 1 / inclusion
            _add(self.reliability, {step_of(confidence): [1, weight, weight * confidence, weight * right]})
            sums = (1, weight, weight**2, weight * right, weight**2 * right)
            self.weighted = [mine + new for mine, new in zip(self.weighted, sums, strict=True)]
        name = f"{chosen}{BETWEEN}{given}"
        count, examples = self.cells.get(name, (0, []))
        kept = sorted([*examples, [round(confidence, 4), id]], key=lambda each: -each[0])[:EXAMPLES]
        self.cells[name] = (count + 1, kept)

    def accuracy(self) -> Estimate | None:
        """Return how often the ensemble was right in all traffic, by the random share of the review."""
        return weighted_share(*self.weighted)

    def by_model(self) -> dict[str, Estimate | None]:
        """Return each model's accuracy on the reviewed products that both answered."""
        return {name: share_of(self.models[name], self.both) for name in MODELS}

    def to_json(self) -> dict[str, Any]:
        return {
            "tally": _list(self.tally),
            "categories": {name: _list(tally) for name, tally in self.categories.items()},
            "languages": {name: _list(tally) for name, tally in self.languages.items()},
            "reliability": self.reliability,
            "both": self.both,
            "models": dict(self.models),
            "alone": self.alone,
            "weighted": self.weighted,
            "cells": {name: [count, examples] for name, (count, examples) in self.cells.items()},
            "labels": dict(self.labels),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        if not content:
            return cls()
        return cls(
            Tally(*content["tally"]),
            {name: Tally(*tally) for name, tally in content["categories"].items()},
            {name: Tally(*tally) for name, tally in content["languages"].items()},
            _numbered(content["reliability"]),
            content["both"],
            Counter(content["models"]),
            {name: list(pair) for name, pair in content["alone"].items()},
            list(content["weighted"]),
            {name: (count, examples) for name, (count, examples) in content["cells"].items()},
            Counter(content["labels"]),
        )


def step_of(confidence: float) -> int:
    return min(int(confidence * STEPS), STEPS - 1)


def calibration(reliability: Mapping[int, Sequence[float]]) -> Calibration | None:
    """Return 15 bins and the expected calibration error of reviewed rows, as `quality.accuracy.calibration` does."""
    if not reliability:
        return None
    sums = np.zeros((BINS, 4))
    for step, entry in reliability.items():
        sums[step * BINS // STEPS] += entry
    bins = [
        Bin(b / BINS, (b + 1) / BINS, int(rows), sure / mass if rows else None, right / mass if rows else None)
        for b, (rows, mass, sure, right) in enumerate(sums.tolist())
    ]
    return Calibration(bins, float(np.abs(sums[:, 3] - sums[:, 2]).sum() / sums[:, 1].sum()))


def calibrator(reliability: Mapping[int, Sequence[float]]) -> Calibrator | None:
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


def expected(confidence: Mapping[int, Sequence[float]], known: Calibrator) -> Expected | None:
    """Return the accuracy to expect of a stretch, by the mean confidence of each step."""
    if not confidence:
        return None
    rows, sums = np.array(list(confidence.values()), np.float64).T
    return expected_accuracy(sums / rows, known, rows)


def _add(mine: dict[Any, list[float]], theirs: Mapping[Any, Sequence[float]]) -> None:
    for name, entry in theirs.items():
        had = mine.get(name)
        mine[name] = [a + b for a, b in zip(had, entry, strict=True)] if had else list(entry)


def _list(tally: Tally) -> list[int]:
    return list(vars(tally).values())


def _numbered(content: Mapping[str, Any]) -> dict[int, Any]:
    """JSON's names are text."""
    return {int(name): value for name, value in content.items()}
