"""Measure forgetting: a text model is trained on one shop, then on another, with and without replay.

Three models: the base (first set only), gone on from it with the second set's products alone, and gone on from it with
both, as `retrain --from champion` does. Each is measured on both sets' untouched test parts. See benchmarks/README.md.
"""

import argparse
import io
import os
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.products import data_folder
from benchmarks.harness.progress import log_step
from benchmarks.harness.report import print_markdown
from benchmarks.harness.stack import set_up_home
from benchmarks.quality import write_sample

FIGURES = ("n", "accuracy", "macro_f1", "log_loss")
QUICK_ROWS = 600


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the two sets and how models are trained on them."""
    parser.add_argument(
        "sets", nargs="*", default=["gumtree_listings", "flipkart_titles"], help="two folders in --data"
    )
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--category-column", default="mapped18")
    parser.add_argument("--recipe", default="partial")
    parser.add_argument("--rows", type=int, default=3_000, help="of each set")


def print_report(figures: Figures) -> None:
    """Print a row for each model and test part."""
    rows = []
    for name, parts in figures["models"].items():
        for source, measured in parts.items():
            shares = [f"{100 * measured[figure]:.1f}" for figure in ("accuracy", "macro_f1")]
            rows.append((name, source, f"{measured['n']:.0f}", *shares, f"{measured['log_loss']:.3f}"))
    print_markdown(("model", "test part", "n", "accuracy", "macro F1", "log-loss"), rows)


def measure_replay(options: Options) -> Figures:
    """Return the figures of each model on the test part of each set."""
    rows, recipe = (QUICK_ROWS, "head") if options.quick else (options.rows, options.recipe)
    set_up_home()
    os.environ |= {"TEXT_MIN_ACCURACY": "0", "TEXT_MAX_LATENCY_MS": "60000"}
    import django

    django.setup()
    from django.core.management import call_command

    from classifier.models import ModelVersion
    from classifier.services import load_categories
    from training.datasets import snapshot_storage, snapshots

    call_command("migrate", verbosity=0)
    load_categories()
    for name in options.sets:
        folder = write_sample(options.data / name, rows)
        call_command("import_products", str(folder), category_column=options.category_column, source=name,
                     stdout=io.StringIO())  # fmt: skip
    old, new = options.sets
    both = snapshots.make_dataset()
    results = {}
    for title, sources, start in (
        (f"{old} alone", [old], None),
        (f"then {new} alone", [new], "champion"),
        (f"then {new}, {old} replayed", [old, new], "champion"),
    ):
        log_step(title)
        dataset = snapshots.make_dataset(sources=sources)
        # Only the base is deployed, so that both others are trained from it.
        call_command("retrain", "text", dataset=str(dataset.pk), recipe=recipe, start=start,
                     no_deploy=start is not None, stdout=io.StringIO())  # fmt: skip
        results[title] = measure_by_source(
            ModelVersion.objects.latest("created_at"), snapshot_storage.fetch_corpus(both), options.sets
        )
    return {"models": results, "recipe": recipe, "sets": options.sets}


def measure_by_source(version: Any, corpus: Any, sources: list[str]) -> dict[str, Any]:
    """Return the version's figures on each source's test products."""
    import numpy as np

    from training.acceptance.batch_inference import predict_rows
    from training.acceptance.metrics import compute_metrics
    from training.datasets.corpus import row_key

    rows = corpus.split("test", columns=["source", "id", "label"], with_text=True)
    numbers = {label: number for number, label in enumerate(corpus.labels)}
    found = {}
    for source in sources:
        mine = [row for row in rows if row["source"] == source]
        keys = [row_key(row["source"], row["id"]) for row in mine]
        probabilities = predict_rows(version, corpus, "test", keys, corpus.labels)
        figures = compute_metrics(probabilities, np.array([numbers[row["label"]] for row in mine], np.int64))
        found[source] = {name: figures[name] for name in FIGURES}
    return found


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_replay, print_report=print_report, add_options=add_options,
        quick=f"{QUICK_ROWS} rows a set, heads only: about a minute",
    )  # fmt: skip
