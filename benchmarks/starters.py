"""How good the starter models are, data set by data set, beside TF-IDF + logistic regression on the same rows.

Imports every set in --data by its column `mapped18` into an Aisle of its own, lets the committed starters answer the
untouched test part, trains the yardstick on the training part, and prints Markdown tables. See benchmarks/README.md.
"""

import argparse
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from progress import say
from quality import some_rows
from stack import set_up_home

QUICK_ROWS = 400
FIGURES = ("accuracy", "top5", "macro_f1", "log_loss", "ece")
POOLED = "**pooled**"


def main() -> None:
    options = parse()
    set_up_home()
    results = measure(options)
    if options.json:
        print(json.dumps({"models": results} | machine()))
        return
    for name, sets in results.items():
        print(f"\n### {name}\n\n{table(sets)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AISLE_DATA", "../shared/data")))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS} rows of each set")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return {model: {data set: figures}} on the test part."""
    import django

    django.setup()
    from django.core.management import call_command

    from training.datasets import snapshots

    call_command("migrate", verbosity=0)
    call_command("prepare", stdout=io.StringIO())
    for folder in sorted(path.parent for path in options.data.glob("*/products.csv*")):
        rows = some_rows(folder, QUICK_ROWS) if options.quick else folder
        call_command("import_products", str(rows), category_column="mapped18", source=folder.name, stdout=io.StringIO())
    corpus = snapshots.fetch_corpus(snapshots.make_dataset())
    say("The yardstick")
    results = {"Yardstick: TF-IDF + logistic regression": yardstick(corpus)}
    say("The starters")
    return starters(corpus) | results


def starters(corpus: Any) -> dict[str, Any]:
    """Return the figures of both starters, and of their ensemble on the products that both can answer."""
    from classifier.ml import ensemble
    from classifier.registry import deployments, ensemble_rules
    from training.acceptance.batch_inference import predict_rows

    versions = {modality: deployments.champion(modality) for modality in ("text", "image")}

    def ask(modality: str, rows: list[dict[str, str]]) -> Any:
        return predict_rows(versions[modality], corpus, "test", [row["key"] for row in rows], corpus.labels)

    texts, photos = (test_rows(corpus, **{f"with_{kind}": True}) for kind in ("text", "photo"))
    both = test_rows(corpus, with_text=True, with_photo=True)
    rule = ensemble_rules.usable(versions.values())[versions["text"].pk, versions["image"].pk]
    parts = ask("text", both), ask("image", both)
    return {
        "Text": by_source(ask("text", texts), texts, corpus),
        "Image": by_source(ask("image", photos), photos, corpus),
        "Text and photograph: text alone": by_source(parts[0], both, corpus),
        f"Text and photograph: ensemble ({rule.kind})": by_source(
            ensemble.combine(*parts, rule, corpus.labels), both, corpus
        ),
    }


def yardstick(corpus: Any) -> dict[str, Any]:
    from yardstick import predict

    def part(split: str) -> tuple[list[tuple[str, str]], Any]:
        rows = corpus.split(split, columns=["title", "description", "label"], with_text=True)
        texts = list(zip(rows["title"], rows["description"], strict=True))
        return texts, targets(rows["label"], corpus)

    test = part("test")[0]
    said = predict(part("train"), part("validation"), test, len(corpus.labels))
    return by_source(said, test_rows(corpus, with_text=True), corpus)


def test_rows(corpus: Any, **wanted: bool) -> list[dict[str, str]]:
    """Return key, source and label of the test products that have what is wanted."""
    from training.datasets.corpus import row_key

    rows = corpus.split("test", columns=["source", "id", "label"], **wanted)
    return [{"key": row_key(r["source"], r["id"]), "source": r["source"], "label": r["label"]} for r in rows]


def targets(labels: Any, corpus: Any) -> Any:
    numbers = {label: number for number, label in enumerate(corpus.labels)}
    return np.array([numbers[label] for label in labels], np.int64)


def by_source(said: Any, rows: list[dict[str, str]], corpus: Any) -> dict[str, Any]:
    from training.acceptance import metrics

    wanted = targets([row["label"] for row in rows], corpus)
    figures: dict[str, Any] = metrics.metrics_by_group(said, wanted, [row["source"] for row in rows])
    return figures | {POOLED: metrics.compute_metrics(said, wanted)}


def table(sets: dict[str, Any]) -> str:
    """Return the figures as Markdown; shares in per cent, log-loss in nats."""
    lines = [f"| data set | n | {' | '.join(FIGURES)} |", "|---|---:|" + "---:|" * len(FIGURES)]
    for name, figures in sets.items():
        cells = [f"{figures[f]:.3f}" if f == "log_loss" else f"{100 * figures[f]:.1f}" for f in FIGURES]
        lines.append(f"| {name} | {figures['n']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
