"""Measure the models that `manage.py retrain` makes, set by set, beside TF-IDF + logistic regression.

For each set: an Aisle of its own, `import_products` with the set's own categories, `retrain`, and the figures on the
untouched test part, as the registry holds them. See benchmarks/README.md.
"""

import argparse
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.products import data_folder, product_tables, read_rows
from benchmarks.harness.progress import log_step
from benchmarks.harness.report import print_markdown
from benchmarks.harness.stack import set_up_home

FIGURES = ("n", "accuracy", "top5", "macro_f1", "log_loss", "ece")
QUICK_ROWS = 600


def measure_quality(options: Options) -> Figures:
    """Return the figures of the models that are trained on each set."""
    sets = {}
    for name in options.sets:
        log_step(f"{name}: importing, training, measuring")
        # Embedded servers belong to a process's home: each of several sets gets a process of its own.
        sets[name] = measure_set(name, options) if len(options.sets) == 1 else measure_in_own_process(name, options)
    return {"sets": sets, "recipe": options.recipe, "from_starters": options.from_starters}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the sets and how models are trained on them."""
    parser.add_argument("sets", nargs="+", help="folders under --data")
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--category-column", default="category")
    parser.add_argument("--recipe", default="default", help="as for manage.py retrain")
    parser.add_argument("--from-starters", action="store_true", help="continue from the models that come with Aisle")
    parser.add_argument("--modality", default="", choices=["", "text", "image"], help="default: what the set has")


def measure_in_own_process(name: str, options: Options) -> dict[str, Any]:
    """Measure one set in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.quality", name, "--data", str(options.data), "--category-column",
               options.category_column, "--recipe", options.recipe, "--json"]  # fmt: skip
    if options.quick:
        command.append("--quick")
    if options.from_starters:
        command.append("--from-starters")
    if options.modality:
        command += ["--modality", options.modality]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["sets"][name]
    return found


def measure_set(name: str, options: Options) -> dict[str, Any]:
    """Import one set into a fresh Aisle, train on it and return every figure."""
    set_up_home()
    os.environ |= {"TEXT_MIN_ACCURACY": "0", "IMAGE_MIN_ACCURACY": "0", "TEXT_MAX_LATENCY_MS": "60000",
                   "IMAGE_MAX_LATENCY_MS": "60000"}  # fmt: skip
    import django

    django.setup()
    from django.core.management import call_command

    from classifier.models import Category, EnsembleRule, ModelVersion
    from training.datasets import snapshot_storage, snapshots
    from training.models import TrainingRun

    call_command("migrate", verbosity=0)
    if options.from_starters:
        call_command("prepare", stdout=io.StringIO())
    folder = write_sample(options.data / name, QUICK_ROWS) if options.quick else options.data / name
    call_command(
        "import_products", str(folder), category_column=options.category_column, create_categories=True,
        source=name, stdout=io.StringIO(),
    )  # fmt: skip
    dataset = snapshots.make_dataset()
    corpus = snapshot_storage.fetch_corpus(dataset)
    # The set's own categories are all that this shop offers: without the starters' nothing is lost.
    Category.objects.exclude(slug__in=corpus.manifest["classes"]).update(is_active=False)
    has = corpus.manifest["splits"]["train"]
    wanted = [m for m, rows in (("text", has["with_text"]), ("image", has["with_photo"])) if rows]
    if options.modality:
        wanted = [options.modality]
    result: dict[str, Any] = {"rows": {split: part["rows"] for split, part in corpus.manifest["splits"].items()}}
    for modality in wanted:
        began = time.monotonic()
        recipe = "head" if options.quick else options.recipe
        start = "champion" if options.from_starters else None
        call_command("retrain", modality, dataset=str(dataset.pk), recipe=recipe, start=start, stdout=io.StringIO())
        version = ModelVersion.objects.filter(modality=modality).latest("created_at")
        result[modality] = {figure: version.metrics[figure] for figure in FIGURES} | {
            "seconds": round(time.monotonic() - began), "size_mb": round(version.metrics["size_bytes"] / 1e6, 1),
            "latency_ms": round(version.metrics["latency_ms"], 1),
        }  # fmt: skip
        if modality == "text":
            result["yardstick"] = measure_tfidf(corpus)
    trained = dict(TrainingRun.objects.values_list("modality", "version"))
    rules = EnsembleRule.objects.filter(text_version=trained.get("text"), image_version=trained.get("image"))
    if rule := rules.first():
        result |= {f"ensemble: {kind}": figures for kind, figures in rule.metrics["test"].items()}
        result["rule"] = rule.kind
    return result


def measure_tfidf(corpus: Any) -> dict[str, float]:
    """Return the figures of TF-IDF with logistic regression on the corpus's test products that have a text."""
    import numpy as np

    from benchmarks.tfidf_baseline import predict_with_tfidf
    from training.acceptance.metrics import compute_metrics

    labels = {label: number for number, label in enumerate(corpus.labels)}

    def part(split: str) -> tuple[list[tuple[str, str]], Any]:
        rows = corpus.split(split, columns=["title", "description", "label"], with_text=True)
        texts = list(zip(rows["title"], rows["description"], strict=True))
        return texts, np.array([labels[label] for label in rows["label"]], np.int64)

    test, targets = part("test")
    return compute_metrics(predict_with_tfidf(part("train"), part("validation"), test, len(labels)), targets)


def write_sample(folder: Path, count: int) -> Path:
    """Return a new folder with `count` of the set's rows, evenly spread, and all its pictures."""
    sample = Path(tempfile.mkdtemp(prefix="aisle-quick-"))
    [table] = product_tables(folder.parent, folder.name)
    rows = list(read_rows(table))
    step = max(len(rows) / count, 1)
    with (sample / "products.csv").open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, rows[0])
        writer.writeheader()
        for number in range(min(count, len(rows))):
            writer.writerow(rows[int(number * step)])
    for path in folder.glob("*.zip"):
        shutil.copy(path, sample)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.copytree(path, sample / path.name)
    return sample


def print_report(figures: Figures) -> None:
    """Print a row for each set and model; shares in per cent, log-loss in nats."""
    rows = []
    for name, models in figures["sets"].items():
        for model, measured in models.items():
            if not isinstance(measured, dict) or "accuracy" not in measured:
                continue
            shares = [f"{100 * measured[figure]:.1f}" for figure in ("accuracy", "top5", "macro_f1")]
            rest = (f"{measured['log_loss']:.3f}", f"{100 * measured['ece']:.1f}")
            rows.append((name, model, f"{measured['n']:.0f}", *shares, *rest))
    print_markdown(("set", "model", "n", "accuracy", "top-5", "macro F1", "log-loss", "ECE"), rows)


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_quality, print_report=print_report, add_options=add_options,
        quick=f"{QUICK_ROWS} rows of a set, heads only: about a minute",
    )  # fmt: skip
