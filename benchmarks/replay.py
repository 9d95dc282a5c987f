"""What going on from the live model forgets: a text model learns one shop, then another, with and without replay.

Three models: the base (first set only), gone on from it with the second set's products alone, and gone on from it with
both, as `retrain --from champion` does. Each is measured on both sets' untouched test parts. See benchmarks/README.md.
"""

import argparse
import io
import json
import os
from pathlib import Path
from typing import Any

from machine import machine
from progress import say
from quality import some_rows
from stack import set_up_home

FIGURES = ("n", "accuracy", "macro_f1", "log_loss")
QUICK_ROWS = 600


def main() -> None:
    options = parse()
    results = measure(options)
    if options.json:
        print(json.dumps({"models": results, "recipe": options.recipe, "sets": options.sets} | machine()))
        return
    print("| model | test part | n | accuracy | macro F1 | log-loss |\n|---|---|---:|---:|---:|---:|")
    for name, parts in results.items():
        for source, f in parts.items():
            shares = f"{100 * f['accuracy']:.1f} | {100 * f['macro_f1']:.1f} | {f['log_loss']:.3f}"
            print(f"| {name} | {source} | {f['n']:.0f} | {shares} |")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sets", nargs="*", default=["gumtree_listings", "flipkart_titles"], help="two folders in --data"
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AISLE_DATA", "../shared/data")))
    parser.add_argument("--category-column", default="mapped18")
    parser.add_argument("--recipe", default="partial")
    parser.add_argument("--rows", type=int, default=3_000, help="of each set")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS} rows a set, heads only: about a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.recipe = QUICK_ROWS, "head"
    return options


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return {model: {set: figures on its test part}}."""
    set_up_home()
    os.environ |= {"TEXT_MIN_ACCURACY": "0", "TEXT_MAX_LATENCY_MS": "60000"}
    import django

    django.setup()
    from django.core.management import call_command

    from classifier.models import ModelVersion
    from classifier.services import load_categories
    from training.datasets import snapshots

    call_command("migrate", verbosity=0)
    load_categories()
    for name in options.sets:
        folder = some_rows(options.data / name, options.rows)
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
        say(title)
        dataset = snapshots.make_dataset(sources=sources)
        # Only the base goes live, so that both others go on from it.
        call_command("retrain", "text", dataset=str(dataset.pk), recipe=options.recipe, start=start,
                     no_deploy=start is not None, stdout=io.StringIO())  # fmt: skip
        results[title] = by_source(
            ModelVersion.objects.latest("created_at"), snapshots.fetch_corpus(both), options.sets
        )
    return results


def by_source(version: Any, corpus: Any, sources: list[str]) -> dict[str, Any]:
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
        said = predict_rows(version, corpus, "test", keys, corpus.labels)
        figures = compute_metrics(said, np.array([numbers[row["label"]] for row in mine], np.int64))
        found[source] = {name: figures[name] for name in FIGURES}
    return found


if __name__ == "__main__":
    main()
