"""Measure the starter models, data set by data set, beside TF-IDF + logistic regression on the same rows.

Imports every set in --data by its column `mapped18` into an Aisle of its own, lets the committed starters answer the
untouched test part, trains the baseline on the training part, and prints Markdown tables. See benchmarks/README.md.
"""

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.products import data_folder, product_tables
from benchmarks.harness.progress import log_step
from benchmarks.harness.report import print_markdown
from benchmarks.harness.stack import prepare_database, set_up_home
from benchmarks.quality import write_sample

QUICK_ROWS = 400
FIGURES = ("accuracy", "top5", "macro_f1", "log_loss", "ece")
POOLED = "**pooled**"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --data."""
    parser.add_argument("--data", type=Path, default=data_folder())


def measure_starters(options: Options) -> Figures:
    """Return the figures of the starters and of TF-IDF with logistic regression, by model and data set."""
    set_up_home()
    prepare_database()
    from django.core.management import call_command

    from training.datasets import snapshot_storage, snapshots

    for table in product_tables(options.data):
        folder = table.parent
        rows = write_sample(folder, QUICK_ROWS) if options.quick else folder
        call_command("import_products", str(rows), category_column="mapped18", source=folder.name, stdout=io.StringIO())
    corpus = snapshot_storage.fetch_corpus(snapshots.make_dataset())
    log_step("TF-IDF + logistic regression")
    baseline = {"Baseline: TF-IDF + logistic regression": measure_tfidf(corpus)}
    log_step("The starters")
    return {"models": measure_models(corpus) | baseline}


def measure_models(corpus: Any) -> dict[str, Any]:
    """Return the figures of both starters, and of their ensemble on the products that both can answer."""
    from classifier.ml import ensemble
    from classifier.models import ModelVersion
    from classifier.registry import ensemble_rules, traffic
    from training.acceptance.batch_inference import predict_rows

    versions: dict[str, ModelVersion] = {}
    for modality in ("text", "image"):
        champion = traffic.current_champion(modality)
        assert champion, f"{modality}: no version is live"
        versions[modality] = champion

    def ask(modality: str, rows: list[dict[str, str]]) -> Any:
        return predict_rows(versions[modality], corpus, "test", [row["key"] for row in rows], corpus.labels)

    texts, photos = (test_rows(corpus, **{f"with_{kind}": True}) for kind in ("text", "photo"))
    both = test_rows(corpus, with_text=True, with_photo=True)
    rule = ensemble_rules.usable_rules(versions.values())[versions["text"].pk, versions["image"].pk]
    parts = ask("text", both), ask("image", both)
    return {
        "Text": figures_by_source(ask("text", texts), texts, corpus),
        "Image": figures_by_source(ask("image", photos), photos, corpus),
        "Text and photograph: text alone": figures_by_source(parts[0], both, corpus),
        f"Text and photograph: ensemble ({rule.kind})": figures_by_source(
            ensemble.combine_probabilities(*parts, rule, corpus.labels), both, corpus
        ),
    }


def measure_tfidf(corpus: Any) -> dict[str, Any]:
    """Return the figures of TF-IDF with logistic regression by data set."""
    from benchmarks.tfidf_baseline import predict_with_tfidf

    def part(split: str) -> tuple[list[tuple[str, str]], Any]:
        rows = corpus.split(split, columns=["title", "description", "label"], with_text=True)
        texts = list(zip(rows["title"], rows["description"], strict=True))
        return texts, target_numbers(rows["label"], corpus)

    test = part("test")[0]
    probabilities = predict_with_tfidf(part("train"), part("validation"), test, len(corpus.labels))
    return figures_by_source(probabilities, test_rows(corpus, with_text=True), corpus)


def test_rows(corpus: Any, **wanted: bool) -> list[dict[str, str]]:
    """Return key, source and label of the test products that have what is wanted."""
    from training.datasets.corpus import row_key

    rows = corpus.split("test", columns=["source", "id", "label"], **wanted)
    return [{"key": row_key(r["source"], r["id"]), "source": r["source"], "label": r["label"]} for r in rows]


def target_numbers(labels: Any, corpus: Any) -> Any:
    numbers = {label: number for number, label in enumerate(corpus.labels)}
    return np.array([numbers[label] for label in labels], np.int64)


def figures_by_source(probabilities: Any, rows: list[dict[str, str]], corpus: Any) -> dict[str, Any]:
    """Return the figures of each data set, and of all of them together."""
    from training.acceptance import metrics

    wanted = target_numbers([row["label"] for row in rows], corpus)
    figures: dict[str, Any] = metrics.metrics_by_group(probabilities, wanted, [row["source"] for row in rows])
    return figures | {POOLED: metrics.compute_metrics(probabilities, wanted)}


def print_report(figures: Figures) -> None:
    """Print a table for each model; shares in per cent, log-loss in nats."""
    for name, sets in figures["models"].items():
        print(f"\n### {name}\n")
        rows = []
        for source, measured in sets.items():
            cells = []
            for figure in FIGURES:
                value = measured[figure]
                cells.append(f"{value:.3f}" if figure == "log_loss" else f"{100 * value:.1f}")
            rows.append((source, str(measured["n"]), *cells))
        print_markdown(("data set", "n", *FIGURES), rows)


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_starters, print_report=print_report, add_options=add_options,
        quick=f"{QUICK_ROWS} rows of each set",
    )  # fmt: skip
