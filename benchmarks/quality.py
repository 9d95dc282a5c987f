"""How good the models are that `manage.py retrain` makes, set by set, beside TF-IDF + logistic regression.

For each set: an Aisle of its own, `import_products` with the set's own categories, `retrain`, and the figures on the
untouched test part, as the registry holds them. See benchmarks/README.md.
"""

import argparse
import io
import json
import os
import time
from pathlib import Path
from typing import Any

from machine import machine
from progress import say
from stack import set_up_home

FIGURES = ("n", "accuracy", "top5", "macro_f1", "log_loss", "ece")
QUICK_ROWS = 600


def main() -> None:
    options = parse()
    results = {}
    for name in options.sets:
        say(f"{name}: importing, training, measuring")
        results[name] = in_own_process(name, options) if len(options.sets) > 1 else measure_set(name, options)
    if options.json:
        print(
            json.dumps({"sets": results, "recipe": options.recipe, "from_starters": options.from_starters} | machine())
        )
    else:
        print(table(results))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", help="folders under --data")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AISLE_DATA", "../shared/data")))
    parser.add_argument("--category-column", default="category")
    parser.add_argument("--recipe", default="default", help="as for manage.py retrain")
    parser.add_argument("--from-starters", action="store_true", help="go on from the models that come with Aisle")
    parser.add_argument("--modality", default="", choices=["", "text", "image"], help="default: what the set has")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS} rows of a set, heads only: about a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    return parser.parse_args()


def in_own_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one set in a process of its own: embedded servers belong to a process's home."""
    import subprocess
    import sys

    command = [sys.executable, __file__, name, "--data", str(options.data), "--category-column",
               options.category_column, "--recipe", options.recipe, "--json"]  # fmt: skip
    command += ["--quick"] if options.quick else []
    command += ["--from-starters"] if options.from_starters else []
    command += ["--modality", options.modality] if options.modality else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["sets"][name]
    return found


def measure_set(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Import one set into a fresh Aisle, train on it and return every figure."""
    set_up_home()
    os.environ |= {"TEXT_MIN_ACCURACY": "0", "IMAGE_MIN_ACCURACY": "0", "TEXT_MAX_LATENCY_MS": "60000",
                   "IMAGE_MAX_LATENCY_MS": "60000"}  # fmt: skip
    import django

    django.setup()
    from django.core.management import call_command

    from classifier.models import Category, EnsembleRule, ModelVersion
    from training.datasets import snapshots
    from training.models import TrainingRun

    call_command("migrate", verbosity=0)
    if options.from_starters:
        call_command("prepare", stdout=io.StringIO())
    folder = some_rows(options.data / name, QUICK_ROWS) if options.quick else options.data / name
    call_command(
        "import_products", str(folder), category_column=options.category_column, create_categories=True,
        source=name, stdout=io.StringIO(),
    )  # fmt: skip
    dataset = snapshots.make_dataset()
    corpus = snapshots.fetch_corpus(dataset)
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
            result["yardstick"] = yardstick(corpus)
    trained = dict(TrainingRun.objects.values_list("modality", "version"))
    rules = EnsembleRule.objects.filter(text_version=trained.get("text"), image_version=trained.get("image"))
    if rule := rules.first():
        result |= {f"ensemble: {kind}": figures for kind, figures in rule.metrics["test"].items()}
        result["rule"] = rule.kind
    return result


def yardstick(corpus: Any) -> dict[str, float]:
    """Return the yardstick's figures on the corpus's test products that have a text."""
    import numpy as np
    from yardstick import predict

    from training.acceptance.metrics import compute_metrics

    labels = {label: number for number, label in enumerate(corpus.labels)}

    def part(split: str) -> tuple[list[tuple[str, str]], Any]:
        rows = corpus.split(split, columns=["title", "description", "label"], with_text=True)
        texts = list(zip(rows["title"], rows["description"], strict=True))
        return texts, np.array([labels[label] for label in rows["label"]], np.int64)

    test, targets = part("test")
    return compute_metrics(predict(part("train"), part("validation"), test, len(labels)), targets)


def some_rows(folder: Path, count: int) -> Path:
    """Return a folder with `count` of the set's rows, evenly spread, and its pictures."""
    import csv
    import gzip
    import shutil
    import tempfile

    quick = Path(tempfile.mkdtemp(prefix="aisle-quick-"))
    table = next(path for path in (folder / "products.csv", folder / "products.csv.gz") if path.is_file())
    open_text = gzip.open if table.suffix == ".gz" else open
    with (
        open_text(table, "rt", encoding="utf-8") as source,
        (quick / "products.csv").open("w", newline="", encoding="utf-8") as target,
    ):
        header, *rows = csv.reader(source)
        step = max(len(rows) / count, 1)
        picked = [rows[int(number * step)] for number in range(min(count, len(rows)))]
        csv.writer(target).writerows([header, *picked])
    for path in folder.glob("*.zip"):
        shutil.copy(path, quick)
    for path in filter(Path.is_dir, folder.iterdir()):
        shutil.copytree(path, quick / path.name)
    return quick


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the figures as Markdown; shares in per cent, log-loss in nats."""
    lines = [
        "| set | model | n | accuracy | top-5 | macro F1 | log-loss | ECE |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, models in results.items():
        for model, figures in models.items():
            if not isinstance(figures, dict) or "accuracy" not in figures:
                continue
            shares = (f"{100 * figures[f]:.1f}" for f in ("accuracy", "top5", "macro_f1"))
            lines.append(
                f"| {name} | {model} | {figures['n']:.0f} | {' | '.join(shares)} | {figures['log_loss']:.3f} "
                f"| {100 * figures['ece']:.1f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
