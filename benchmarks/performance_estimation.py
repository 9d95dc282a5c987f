"""Measure how near the accuracy that is estimated without labels comes to the true one.

Each window is drawn with its own reference of labelled products, on which the calibrator is fitted. See
benchmarks/README.md.
"""

from typing import Any

import numpy as np

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.held_back_predictions import (
    QUICK_HELP,
    UNSEEN,
    HeldBackPredictions,
    add_prediction_options,
    combine_models,
    load_predictions,
)
from benchmarks.harness.report import print_markdown
from feedback.statistics.performance_estimation import Calibrator, estimate_accuracy

REFERENCE, WINDOW = 3_000, 1_000
WINDOWS, QUICK_WINDOWS = 100, 20
SHARE = 0.5  # of a window that a shift changes
SHIFTS = ("none", "category mix", "source mix", "photographs only", "blurred photos", "new language", "unseen type")


def measure_estimation(options: Options) -> Figures:
    """Return how near the estimated accuracy is to the true one, by shift."""
    data = load_predictions(options)
    shifts = {}
    for shift in SHIFTS:
        found = measure_shift(data, shift, QUICK_WINDOWS if options.quick else WINDOWS)
        if found:
            shifts[shift] = found
    return {"shifts": shifts, "data": data.kind}


def print_report(figures: Figures) -> None:
    """Print a row for each shift."""
    header = (
        "shift", "windows", "true accuracy", "estimated", "mean absolute error", "bare confidence", "interval covers",
    )  # fmt: skip
    rows = []
    for shift, found in figures["shifts"].items():
        cells = [f"{found[name]:.3f}" for name in ("true", "estimated", "mae", "mae_bare")]
        rows.append((shift, str(found["windows"]), *cells, f"{found['covered']:.0%}"))
    print_markdown(header, rows)


def measure_shift(data: HeldBackPredictions, shift: str, windows: int) -> dict[str, float] | None:
    """Return the figures of one shift; None where the data has nothing to make it of."""
    pool = np.flatnonzero((data.targets != UNSEEN) & [product.language == "en" for product in data.products])
    reference = min(REFERENCE, len(pool) // 2)
    size = min(WINDOW, len(pool) - reference)
    errors, bare, truths, estimates, covered = [], [], [], [], 0
    for turn in range(windows):
        rng = np.random.default_rng(turn)
        order = rng.permutation(pool)
        known, rest = order[:reference], order[reference:]
        calibrator = Calibrator.fit(
            data.ensemble[known].max(axis=1), is_right(data.ensemble[known], data.targets[known])
        )
        try:
            answers, targets = draw_window(data, shift, rest, size, rng)
        except LookupError:
            return None
        assert calibrator
        expected = estimate_accuracy(answers.max(axis=1), calibrator)
        assert expected
        true = float(is_right(answers, targets).mean())
        truths.append(true)
        estimates.append(expected.accuracy)
        errors.append(abs(expected.accuracy - true))
        bare.append(abs(float(answers.max(axis=1).mean()) - true))
        covered += expected.low <= true <= expected.high
    means = {"true": truths, "estimated": estimates, "mae": errors, "mae_bare": bare}
    figures = {name: float(np.mean(values)) for name, values in means.items()}
    return figures | {"windows": len(errors), "covered": covered / len(errors), "rows": size, "reference": reference}


def is_right(answers: Any, targets: Any) -> Any:
    return answers.argmax(axis=1) == targets


def draw_window(
    data: HeldBackPredictions, shift: str, rest: Any, size: int, rng: np.random.Generator
) -> tuple[Any, Any]:
    """Return a window's answers and true categories; half of it has shifted, drawn with replacement if need be."""
    if shift == "none":
        rows = rest[:size]
        return data.ensemble[rows], data.targets[rows]
    answers = data.ensemble
    everything = np.arange(len(data))
    foreign = np.array([product.language != "en" for product in data.products])
    sources = np.array([product.source for product in data.products])
    unseen = data.targets == UNSEEN
    if shift == "category mix":
        some = rest[data.targets[rest] == rng.choice(data.targets[rest])]
    elif shift == "source mix":
        some = rest[sources[rest] == rng.choice(np.unique(sources[rest]))]
    elif shift == "photographs only":
        some = rest[data.has_photo[rest]]
        answers = np.where(data.has_photo[:, None], data.image.probabilities, answers)
    elif shift == "blurred photos":
        sharp = np.isfinite(data.blurred.energies)
        some = rest[sharp[rest]]
        answers = combine_models(
            data.text.probabilities,
            np.where(sharp[:, None], data.blurred.probabilities, data.image.probabilities),
            data.labels,
        )
    elif shift == "new language":
        some = everything[foreign & ~unseen]
    else:
        some = everything[unseen & ~foreign]
    if not len(some):
        raise LookupError(shift)
    count = round(SHARE * size)
    usual, moved = rest[: size - count], rng.choice(some, count, replace=len(some) < count)
    both = np.concatenate([data.ensemble[usual], answers[moved]])
    return both, data.targets[np.concatenate([usual, moved])]


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_estimation, print_report=print_report, add_options=add_prediction_options, quick=QUICK_HELP
    )
