"""Measure how often drift is found in windows of real products, with and without an injected shift.

Power and false alarms of windows under 1,000 rows (p-values) and above (distances), also by Evidently.
See benchmarks/README.md.
"""

import argparse
import csv
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
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
from benchmarks.harness.progress import log_step, track_progress
from benchmarks.harness.report import print_markdown
from classifier.ml.out_of_distribution import QUANTILE, CentroidDetector
from feedback.statistics.drift import columns as drift_columns
from feedback.statistics.drift import input_features
from feedback.statistics.drift.comparison import compare_summaries, drifted_columns
from feedback.statistics.drift.summaries import BinLayout, DriftSummary, FeatureBatch

WINDOWS = (500, 2_000)
SMALL_WINDOWS = (60, 120)  # where there are few products
REFERENCE = 3_000
QUIET, SHIFTED = 200, 60
QUICK_QUIET, QUICK_SHIFTED = 40, 20
SHARES = (0.1, 0.2, 0.3)  # of the window that is mixed in
BLURRED = (0.2, 0.5, 1.0)  # of its photographs
FOR_EVIDENTLY = (0.0, 0.2, 0.5)
LEAST_OF_A_CATEGORY = 60


def measure_drift(options: Options) -> Figures:
    """Return how often each shift is found, and how well single unusual inputs are separated from ordinary ones."""
    data = load_predictions(options)
    is_small = len(data) < REFERENCE * 2
    windows, reference = (SMALL_WINDOWS, len(data) // 3) if is_small else (WINDOWS, REFERENCE)
    windows = tuple(options.windows or windows)
    rounds = (QUICK_QUIET, QUICK_SHIFTED) if options.quick else (QUIET, SHIFTED)
    with tempfile.TemporaryDirectory(prefix="aisle-drift-") as folder:
        figures = measure_shifts(data, windows, reference, rounds, Path(folder) if options.evidently else None)
        if options.evidently:
            figures["evidently"] = ask_evidently(options.evidently, folder)
    figures["unusual"] = measure_unusual(data)
    return figures | {"data": data.kind}


def ask_evidently(python: str, folder: str) -> Any:
    """Return what Evidently's preset finds in the windows of a folder; it runs in a Python of its own."""
    log_step("Evidently's preset on the same windows")
    script = Path(__file__).with_name("evidently_preset.py")
    done = subprocess.run([python, script, folder], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --evidently and --windows to the options of all benchmarks over held-back products."""
    add_prediction_options(parser)
    parser.add_argument("--evidently", help="a Python that has Evidently: its preset is asked about the same windows")
    parser.add_argument("--windows", type=int, nargs="+", help=f"rows of a window (default: {WINDOWS})")


class Source:
    """The products as rows of drift's columns, and what can be mixed into a window of them."""

    def __init__(self, data: HeldBackPredictions) -> None:
        self.data = data
        foreign = np.array([product.language != "en" for product in data.products])
        known = data.targets != UNSEEN
        self.ordinary = np.flatnonzero(known & ~foreign)
        self.foreign, self.unseen = np.flatnonzero(foreign), np.flatnonzero(~known & ~foreign)
        self.blurrable = np.isfinite(data.blurred.energies)
        # Any fixed axes serve a comparison of two random parts.
        embeddings = {"text": data.text.embeddings, "image": data.image.embeddings}
        fitted = {name: drift_columns.Projection.fit(some[self.ordinary]) for name, some in embeddings.items()}
        self.sharp = self._rows(data.image, data.looks, embeddings, fitted)
        blurred = np.where(self.blurrable[:, None], data.blurred.embeddings, data.image.embeddings)
        probabilities = np.where(self.blurrable[:, None], data.blurred.probabilities, data.image.probabilities)
        seen = np.where(self.blurrable[:, None], data.blurred_looks, data.looks)
        image = type(data.image)(probabilities, blurred, data.image.energies)
        self.unsharp = self._rows(image, seen, embeddings | {"image": blurred}, fitted)

    def _rows(self, image: Any, seen: Any, embeddings: Any, fitted: Any) -> FeatureBatch:
        data = self.data
        answers = combine_models(data.text.probabilities, image.probabilities, data.labels)
        photos = [
            input_features.PhotoFeatures(int(w), int(h), b, s) if np.isfinite(w) else None
            for w, h, b, s in seen.tolist()
        ]
        return drift_columns.build_features(
            [str(row) for row in range(len(data))],
            texts=[(product.title, product.description) for product in data.products],
            looks=photos,
            predicted=[data.labels[best] for best in answers.argmax(axis=1)],
            confidence=answers.max(axis=1),
            embeddings=embeddings,
            projections=fitted,
        )

    def window(self, rows: Any, blurred: Any) -> FeatureBatch:
        """Return the rows, some of them with a blurred photograph; a row may come twice, so ids are places."""
        sharp, unsharp = self.sharp, self.unsharp
        return FeatureBatch(
            [str(place) for place in range(len(rows))],
            {name: np.where(blurred, unsharp.numbers[name][rows], sharp.numbers[name][rows]) for name in sharp.numbers},
            {
                name: [
                    (unsharp if dim else sharp).categories[name][row] for row, dim in zip(rows, blurred, strict=True)
                ]
                for name in sharp.categories
            },
            {
                name: np.where(blurred[:, None], unsharp.vectors[name][rows], sharp.vectors[name][rows])
                for name in sharp.vectors
            },
        )


def inject_shift(
    source: Source, shift: str, rows: Any, rest: Any, share: float, rng: np.random.Generator
) -> tuple[Any, Any]:
    """Return the window's rows with a shift, and which of them have their photograph blurred.

    What is mixed in is drawn with replacement where there isn't enough.
    """
    blurred = np.zeros(len(rows), bool)
    count = round(share * len(rows))
    if shift == "blurred photos":
        at = np.flatnonzero(source.data.has_photo[rows])
        fuzzy = rng.permutation(at)[: round(share * len(at))]
        rows = rows.copy()
        known = np.flatnonzero(source.blurrable & np.isin(np.arange(len(source.data)), source.ordinary))
        rows[fuzzy] = rng.choice(known, len(fuzzy))
        blurred[fuzzy] = True
    elif shift != "quiet":
        targets = source.data.targets[rest]
        counts = np.bincount(targets, minlength=1)
        usual = rng.choice(np.flatnonzero(counts >= min(LEAST_OF_A_CATEGORY, counts.max())))
        kinds = {"category mix": rest[targets == usual], "new language": source.foreign, "unseen type": source.unseen}
        some = kinds[shift]
        if not len(some):
            raise LookupError(shift)
        rows = np.concatenate([rows[: len(rows) - count], rng.choice(some, count, replace=len(some) < count)])
    return rows, blurred


def measure_shifts(
    data: HeldBackPredictions, windows: tuple[int, ...], reference: int, rounds: tuple[int, int], folder: Path | None
) -> dict[str, Any]:
    """Return {window: {shift: {share: {alarm, columns}}}}; a folder keeps the small windows for Evidently."""
    log_step("Looking at the products")
    source = Source(data)
    figures: dict[str, Any] = {"reference": reference, "rounds": rounds}
    for size in windows:
        results: dict[str, Any] = {}
        for shift in ("quiet", "category mix", "new language", "blurred photos", "unseen type"):
            for share in {"quiet": (0.0,), "blurred photos": BLURRED}.get(shift, SHARES):
                name = f"{shift} {share:.0%}" if share else shift
                alarms, columns, seen = 0, Counter[str](), 0
                for turn in track_progress(range(rounds[shift != "quiet"]), f"{size} rows, {name}"):
                    rng = np.random.default_rng([turn, size])
                    order = rng.permutation(source.ordinary)
                    known, rows, rest = (
                        order[:reference],
                        order[reference : reference + size],
                        order[reference + size :],
                    )
                    try:
                        rows, blurred = inject_shift(source, shift, rows, rest, share, rng)
                    except LookupError:
                        break
                    window = source.window(rows, blurred)
                    former = source.window(known, np.zeros(len(known), bool))
                    if folder and size == windows[0] and share in FOR_EVIDENTLY:
                        write_windows(folder, name, turn, former, window)
                    layout = BinLayout.of(former, keep=reference)
                    before, now = DriftSummary.of(former, layout), DriftSummary.of(window, BinLayout(layout.edges))
                    found = drifted_columns(compare_summaries(before, now))
                    alarms += bool(found)
                    columns.update(finding.column for finding in found)
                    seen += 1
                if seen:
                    results[name] = {"windows": seen, "alarmed": alarms / seen, "columns": dict(columns)}
        figures[str(size)] = results
    return figures


def write_windows(folder: Path, name: str, turn: int, former: FeatureBatch, window: FeatureBatch) -> None:
    """Write the reference and the window as CSV files for Evidently."""
    for part, rows in (("reference", former), ("window", window)):
        with (folder / f"{name}.{turn}.{part}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow([*rows.numbers, *rows.categories])
            for values in zip(*rows.numbers.values(), *rows.categories.values(), strict=True):
                table.writerow(["" if value is None or value != value else value for value in values])


def measure_unusual(data: HeldBackPredictions) -> dict[str, Any]:
    """Return how well single unusual inputs are separated from ordinary ones (AUC), and the shares flagged."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(18)
    foreign = np.array([product.language != "en" for product in data.products])
    figures: dict[str, Any] = {}
    for name, answers in (("text", data.text), ("image", data.image)):
        asked = np.isfinite(answers.energies)
        order = rng.permutation(np.flatnonzero(asked & (data.targets != UNSEEN) & ~foreign))
        train, held, test = np.split(order, [len(order) // 2, len(order) * 3 // 4])
        if len(held) < 1 / (1 - QUANTILE):
            continue
        sure = answers.probabilities.max(axis=1)
        judge = CentroidDetector.fit(answers.embeddings[train], answers.embeddings[held], sure[held])
        groups = {"unseen type": np.flatnonzero(asked & (data.targets == UNSEEN) & ~foreign)}
        groups["new language"] = np.flatnonzero(asked & foreign)
        ordinary = judge.score(answers.embeddings[test], sure[test])
        found = {"ordinary": {"flagged": float((ordinary > judge.threshold).mean())}}
        for group, rows in groups.items():
            if len(rows):
                scores = judge.score(answers.embeddings[rows], sure[rows])
                truth = np.r_[np.zeros(len(test)), np.ones(len(rows))]
                found[group] = {
                    "auc": float(roc_auc_score(truth, np.r_[ordinary, scores])),
                    "auc_confidence": float(roc_auc_score(truth, -np.r_[sure[test], sure[rows]])),
                    "auc_energy": float(roc_auc_score(truth, np.r_[answers.energies[test], answers.energies[rows]])),
                    "flagged": float((scores > judge.threshold).mean()),
                    "rows": len(rows),
                }
        figures[name] = found
    return figures


def print_report(figures: Figures) -> None:
    """Print the share of windows with an alarm, a row for each shift."""
    sizes = [key for key in figures if key.isdigit()]
    evidently = figures.get("evidently", {})
    header = ["shift", *(f"{size} rows" for size in sizes), "Evidently, any column", "half of them"]
    rows = []
    for name in figures[sizes[0]]:
        cells = [f"{figures[size][name]['alarmed']:.1%}" for size in sizes if name in figures[size]]
        for kind in ("any", "preset"):
            cells.append(f"{evidently[name][kind]:.1%}" if name in evidently else "")
        rows.append([name, *cells])
    print_markdown(header, rows)
    print(json.dumps(figures["unusual"], indent=1))


if __name__ == "__main__":
    run_benchmark(__doc__, measure_drift, print_report=print_report, add_options=add_options, quick=QUICK_HELP)
