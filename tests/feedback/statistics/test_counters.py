import json
import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from feedback.statistics import performance_estimation
from feedback.statistics.calibration import (
    ReliabilitySums,
    confidence_step,
    estimate_from_histogram,
    fit_calibrator,
    reliability_diagram,
)
from feedback.statistics.counters import AnswerStatistics, DurationHistogram, PredictionCounts, seller_cohort
from tests.support.forecasts import draw_forecasts, weighted_estimate


def test_summed_figures_equal_those_of_the_single_rows() -> None:
    chance = np.random.default_rng(18)
    answers, volume = AnswerStatistics(), PredictionCounts()
    confidence = chance.uniform(0.2, 1, 3_000)
    right = chance.random(3_000) < confidence**2
    inclusion_probability = np.where(chance.random(3_000) < 0.5, 1.0, 0.1)
    for sure, hit, drawn in zip(confidence, right, inclusion_probability, strict=True):
        volume.add_confidence(sure)
        answers.add_answer(
            str(uuid.uuid4()), given="a", confidence=sure, language="en", cohort="year", rank=1, is_none=False,
            chosen="a" if hit else "b", is_reviewed=True, inclusion_probability=drawn, best={"text": "b", "image": "a"},
        )  # fmt: skip
    again = AnswerStatistics.from_json(json.loads(json.dumps(answers.to_json())))
    assert again == answers
    mine = reliability_diagram(again.reliability)
    place, weight = (confidence * 15).astype(int), 1 / inclusion_probability
    sure, hit, mass = (np.bincount(place, values, 15) for values in (weight * confidence, weight * right, weight))
    assert mine and mine.error == pytest.approx(np.abs(hit - sure).sum() / mass.sum())
    assert [b.rows for b in mine.bins] == np.bincount(place, minlength=15).tolist()
    assert [b.accuracy for b in mine.bins[3:]] == pytest.approx(hit[3:] / mass[3:])
    drawn, whole = weighted_estimate(right, inclusion_probability), again.ensemble_accuracy()
    assert drawn and whole and whole.rows == 3_000
    assert (whole.value, whole.low, whole.high) == pytest.approx((drawn.value, drawn.low, drawn.high))
    text, wrong = again.accuracy_on_common_products()["text"], weighted_estimate(~right, inclusion_probability)
    assert text and wrong and (text.value, text.low, text.high) == pytest.approx((wrong.value, wrong.low, wrong.high))
    fitted = fit_calibrator(again.reliability)
    exact = performance_estimation.Calibrator.fit(confidence, right)
    assert fitted and exact
    one, two = (
        estimate_from_histogram(volume.confidence, fitted),
        performance_estimation.estimate_accuracy(confidence, exact),
    )
    assert one and two and one.rows == two.rows
    assert one.accuracy == pytest.approx(two.accuracy, abs=0.02)
    assert one.high - one.low == pytest.approx(two.high - two.low, rel=0.1)


def test_the_calibration_error_equals_that_of_training() -> None:
    from training.acceptance.metrics import calibration_error, reliability_bins

    probabilities, targets = draw_forecasts(500)
    training = probabilities.astype(np.float32), targets
    sums: dict[int, ReliabilitySums] = {}
    for sure, right in zip(probabilities.max(axis=1), probabilities.argmax(axis=1) == targets, strict=True):
        step = confidence_step(sure)
        sums[step] = sums.get(step, ReliabilitySums()) + ReliabilitySums.from_row(1, sure, is_correct=right)
    found = reliability_diagram(sums)
    assert found and found.error == pytest.approx(
        calibration_error(probabilities.astype(np.float32), targets), abs=1e-6
    )
    for mine, known in zip(found.bins, reliability_bins(*training), strict=True):
        assert (mine.rows, mine.accuracy) == (known["count"], pytest.approx(known["accuracy"]))
    certain = reliability_diagram({confidence_step(1.0): ReliabilitySums(3, 3, 3, 3)})
    assert certain and certain.error == 0 and certain.bins[0].accuracy is None


def test_without_a_row_every_figure_is_none() -> None:
    empty = AnswerStatistics.from_json({})
    assert empty.ensemble_accuracy() is None and empty.counts.proportion("first") is None
    assert reliability_diagram(empty.reliability) is None and fit_calibrator(empty.reliability) is None
    assert DurationHistogram().percentile(0.5) is None
    assert all(
        estimate is None
        for estimate in [*empty.accuracy_on_common_products().values(), *empty.accuracy_by_model().values()]
    )
    assert PredictionCounts.from_json({}).unusual_share() is None


def test_answers_outside_the_random_share_are_in_no_estimate_of_the_traffic() -> None:
    answers = AnswerStatistics()
    for number in range(100):
        is_drawn = number % 2 == 0
        answers.add_answer(
            str(number), given="a", confidence=0.9, language="en", cohort="year", rank=1,
            is_none=False, chosen="a" if is_drawn else "b", is_reviewed=True,
            inclusion_probability=0.1 if is_drawn else None,
            best={"text": "a", "image": "b"} if number % 4 else {"text": "a"},
        )  # fmt: skip
    found = answers.ensemble_accuracy()
    assert found and (found.value, found.rows) == (1.0, 50)
    together, apart = answers.accuracy_on_common_products(), answers.accuracy_by_model()
    assert {name: each and (each.value, each.rows) for name, each in together.items()} == {
        "text": (1.0, 25), "image": (0.0, 25), "ensemble": (1.0, 25),
    }  # fmt: skip
    assert apart["text"] and (apart["text"].value, apart["text"].rows) == (1.0, 50)
    assert answers.counts.reviewed == 100 == sum(cell.rows for cell in answers.confusions.values())


def test_rows_are_weighted_by_their_inverse_inclusion_probability() -> None:
    answers = AnswerStatistics()
    for number in range(40):
        is_rare = number < 20
        answers.add_answer(
            str(number), given="a", confidence=0.9, language="en", cohort="month", rank=1, is_none=False,
            chosen="a", is_reviewed=True, inclusion_probability=0.1 if is_rare else 0.5,
            best={"text": "a" if is_rare else "b", "image": "b" if is_rare else "a"},
        )  # fmt: skip
    found = answers.accuracy_on_common_products()
    assert found["text"] and found["image"]
    assert (found["text"].value, found["image"].value) == pytest.approx((200 / 240, 40 / 240))


@pytest.mark.parametrize(
    ("days", "cohort"), [(-1, "month"), (0, "month"), (29.9, "month"), (30, "year"), (364.9, "year"), (365, "longer")]
)
def test_a_seller_is_in_the_cohort_of_the_days_since_joining(days: float, cohort: str) -> None:
    joined = datetime(2026, 2, 3, 4, 5, tzinfo=UTC)
    assert seller_cohort(joined, joined + timedelta(days=days)) == cohort


def test_summaries_of_older_versions_are_read() -> None:
    counted = {"done": 7, "failed": 1, "categories": {"a": 7}, "languages": {"en": 5, "es": 2}}
    volume = PredictionCounts.from_json(counted)
    volume.add(PredictionCounts.from_json(counted | {"cohorts": {"month": 7}, "unusual": {"": 6, "text": 1}}))
    assert volume.by_breakdown == {"category": {"a": 14}, "language": {"en": 10, "es": 4}, "cohort": {"month": 7}}
    unlike = volume.unusual_share()
    assert unlike and unlike.rows == 7
    said = {
        "tally": [3, 2, 2, 1, 2, 1], "categories": {"a": [3, 2, 2, 1, 2, 1]}, "languages": {"en": [3, 2, 2, 1, 2, 1]},
        "reliability": {}, "both": 2, "models": {"text": 1}, "alone": {"text": [2, 1]}, "weighted": [0.0] * 5,
        "cells": {}, "labels": {"a": 3},
    }  # fmt: skip
    answers = AnswerStatistics.from_json(said)
    answers.add(AnswerStatistics.from_json(said))
    assert (
        answers.counts.answers == 6 == answers.by_breakdown["category"]["a"].answers
        and not answers.by_breakdown["cohort"]
    )
    # The older counts included answers outside the random share.
    assert answers.accuracy_on_common_products()["text"] is None and answers.accuracy_by_model()["text"] is None
