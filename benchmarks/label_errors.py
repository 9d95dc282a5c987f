"""Measure how early each order of review finds wrong labels: 10 % of a real set's labels are flipped.

Average precision of each order, the mean of several draws. Labels that were wrong before count as right, so no order
can reach 1. See benchmarks/README.md.
"""

from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.held_back_predictions import (
    QUICK_HELP,
    UNSEEN,
    HeldBackPredictions,
    add_prediction_options,
    load_predictions,
)
from benchmarks.harness.progress import log_step
from benchmarks.harness.report import print_markdown
from feedback.statistics import label_errors

FLIPPED = 0.1
DRAWS, QUICK_DRAWS = 10, 3
NOISES = ("uniform", "confusable")


def measure_label_errors(options: Options) -> Figures:
    """Return how well each order finds flipped labels."""
    data = load_predictions(options)
    return rank_flipped_labels(data, QUICK_DRAWS if options.quick else DRAWS) | {"data": data.kind}


def print_report(figures: Figures) -> None:
    """Print a table for each way of flipping labels."""
    for noise in NOISES:
        print(f"\n### {noise} flips, {figures['rows']} {figures['data']} products\n")
        ordered = sorted(figures[noise].items(), key=lambda item: item[1])
        print_markdown(("order", "average precision"), [(name, f"{value:.3f}") for name, value in ordered])
        print(f"\nfound: precision {figures[f'{noise}_precision']:.3f}, recall {figures[f'{noise}_recall']:.3f}")


def rank_flipped_labels(data: HeldBackPredictions, draws: int) -> Figures:
    """Return {noise: {order: average precision}}, and precision and recall of what is counted as an error."""
    rows = np.flatnonzero(data.targets != UNSEEN)
    true, text, image = data.targets[rows], data.text.probabilities[rows], data.image.probabilities[rows]
    both = data.ensemble[rows]
    figures: dict[str, Any] = {"rows": len(rows), "flipped": FLIPPED, "draws": draws}
    for noise in NOISES:
        log_step(f"{noise} flips")
        found: dict[str, list[float]] = {}
        counts = np.zeros(3)
        for draw in range(draws):
            rng = np.random.default_rng(draw)
            given = flip_labels(true, both, noise, rng)
            wrong = given != true
            errors = label_errors.find_label_errors({"text": text, "image": image}, given)
            place = np.arange(len(rows))
            orders = {
                "random": rng.random(len(rows)),
                "confidence, lowest first": 1 - both.max(axis=1),
                "text alone: probability of the label": -np.nan_to_num(text[place, given], nan=1.0),
                "confident learning over both models": errors.suspicion,
                "confident learning over the ensemble": label_errors.find_label_errors({"all": both}, given).suspicion,
                "confident learning over all three": label_errors.find_label_errors(
                    {"text": text, "image": image, "ensemble": both}, given
                ).suspicion,
                "self-confidence, ensemble": -both[place, given],
                "normalized margin, ensemble": normalized_margin(both, given),
                "found errors first, then the margin": errors.suspicion + 1e3 * errors.found,
            }
            for name, score in orders.items():
                found.setdefault(name, []).append(float(average_precision_score(wrong, score)))
            counts += [np.sum(errors.found & wrong), errors.found.sum(), wrong.sum()]
        figures[noise] = {name: float(np.mean(values)) for name, values in found.items()}
        figures[f"{noise}_precision"], figures[f"{noise}_recall"] = counts[0] / counts[1], counts[0] / counts[2]
    return figures


def flip_labels(true: Any, probabilities: Any, noise: str, rng: np.random.Generator) -> Any:
    """Return the labels with a tenth replaced: by any other category, or by one that it is really mixed up with.

    Mixed up: by how often the ensemble gives the one for the other over the whole set, plus one.
    """
    given, classes = true.copy(), probabilities.shape[1]
    mixed = np.ones((classes, classes))
    if noise == "confusable":
        np.add.at(mixed, (true, probabilities.argmax(axis=1)), 20.0)
    np.fill_diagonal(mixed, 0)
    for row in rng.choice(len(true), round(FLIPPED * len(true)), replace=False):
        chances = mixed[true[row]] / mixed[true[row]].sum()
        given[row] = rng.choice(classes, p=chances)
    return given


def normalized_margin(probabilities: Any, given: Any) -> Any:
    """Return by how much the best other category's probability exceeds that of the given one."""
    others = probabilities.astype(np.float64)
    own = others[np.arange(len(given)), given]
    others[np.arange(len(given)), given] = -np.inf
    return others.max(axis=1) - own


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_label_errors, print_report=print_report, add_options=add_prediction_options, quick=QUICK_HELP
    )
