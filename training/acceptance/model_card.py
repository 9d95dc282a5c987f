"""Model cards: what a version was trained on, how good it is, and what it can't do."""

import json
from collections.abc import Mapping
from typing import Any

from training.acceptance.metrics import BINS, COLUMNS, markdown_table

THIN = 200  # training products below which a category's figures say little

CARD = """# {title}

For Aisle: {task}, probabilities of {count} categories out. Sellers have the last word on every suggestion; it is no
ground for any decision about a person or a seller. No product is in this artifact: it holds weights and these figures.

- Encoder: `{backbone}`
- Recipe: **{recipe}**
- Temperature: {temperature:.3f}, fitted on the validation part (Guo et al. 2017, section 4.2)
- Size: {megabytes:.1f} MB; {latency:.0f} ms for one product ({device}, median)

## Data

{data}

The split is a stable hash of the product: near-equal titles and equal photographs stay in one part. The test part was
used for the figures below and for nothing else.

## Figures on the test part

Per cent, but log_loss in nats. macro_f1: mean F1 over the categories that occur. ece: expected calibration error,
Guo et al. 2017 equation 3, {bins} equally wide bins of the top probability; before temperature scaling it was
{before}.

{overall}

{sources}

Per category: `train` counts training products; accuracy is recall; ece is taken over the products that were given the
category.

{classes}

## Limits

- Fewer than {thin_limit} training products: {thin}.
- A product of no category here gets the nearest one, often with confidence: the probabilities are honest for products
  that belong to one of the categories.
- Products of another kind, place or year than those above will see lower accuracy and looser calibration.
{limits}

## Recipe

```json
{json}
```
"""

TASKS = {
    "text": ("Text model", "title and description of a product in"),
    "image": ("Image model", "one photograph of a product in"),
}

OWN_LIMITS = {
    "text": "- What stands beyond {max_tokens} tokens is not read; words of languages and trades not seen are guessed.",
    "image": "- Text in the picture is not read; what is small in it is hardly seen at the backbone's size.",
}


def model_card(config: Mapping[str, Any], metrics: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Return the card of a version: `config` and `metrics` as its artifact has them, `manifest` of its dataset."""
    modality, classes = config["modality"], metrics["classes"]
    title, task = TASKS[modality]
    thin = [f"{name} ({row['train']})" for name, row in classes.items() if row["train"] < THIN]
    missing = sorted(set(config["labels"]) - set(classes))
    recipe = config.get("recipe", {})
    return CARD.format(
        title=title,
        task=task,
        count=len(config["labels"]),
        backbone=config["backbone"],
        recipe=recipe.get("name", "unnamed") if isinstance(recipe, dict) else recipe,
        temperature=config["temperature"],
        megabytes=metrics["size_bytes"] / 1e6,
        latency=metrics["latency_ms"],
        device=metrics["latency_device"],
        data=_data(manifest),
        bins=BINS,
        before=f"{100 * metrics['ece_before']:.1f}",
        overall=markdown_table({"all": dict(metrics)}, "test part", COLUMNS),
        sources=markdown_table(dict(metrics["sources"]), "source", COLUMNS),
        classes=markdown_table(classes, "category"),
        thin_limit=THIN,
        thin=", ".join(thin) or "none",
        limits="\n".join(
            [
                OWN_LIMITS[modality].format(max_tokens=config.get("max_tokens", "the window's")),
                *([f"- No test product, so no figure: {', '.join(missing)}."] if missing else []),
            ]
        ),
        json=json.dumps(recipe, indent=1),
    )


def _data(manifest: Mapping[str, Any]) -> str:
    splits = manifest["splits"]
    lines = ["| part | products | with text | with photo |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {row['rows']} | {row['with_text']} | {row['with_photo']} |" for name, row in splits.items()]
    return "\n".join([*lines, "", "Sources: " + ", ".join(f"{name}" for name in sorted(manifest["sources"])) + "."])
