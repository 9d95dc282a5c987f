"""Write model cards: what a version was trained on, how accurate it is, and its limits."""

import json
from collections.abc import Mapping
from typing import Any

from training.acceptance.metrics import BINS, COLUMNS, markdown_table

FEW_PRODUCTS = 200  # training products below which a category's figures are unreliable

CARD = """# {title}

For Aisle: reads {task}, returns probabilities of {count} categories. Sellers confirm or change every suggestion; none
may be the ground for a decision about a person or a seller. The artifact holds weights and these figures, no products.

- Encoder: `{backbone}`
- Recipe: **{recipe}**
- Temperature: {temperature:.3f}, fitted on the validation split (Guo et al. 2017, section 4.2)
- Size: {megabytes:.1f} MB; {latency:.0f} ms for one product ({device}, median)

## Data

{data}

The split depends on a stable hash of the product: similar titles and equal photos stay in one split. The test split was
used for the figures below and for nothing else.

## Figures on the test split

Per cent, but log_loss in nats. macro_f1: mean F1 over the categories that occur. ece: expected calibration error,
Guo et al. 2017 equation 3, {bins} equally wide bins of the top probability; before temperature scaling it was
{before}.

{overall}

{sources}

Per category: `train` counts training products; accuracy is recall; ece is taken over the products whose predicted
category it is.

{classes}

## Limits

- Fewer than {few_limit} training products: {few}.
- A product that fits none of these categories gets the nearest one, often with high confidence: the probabilities are
  calibrated for products that belong to one of the categories.
- Accuracy and calibration will be worse for products of another kind, place or year than those above.
{limits}

## Recipe

```json
{json}
```
"""

TASKS = {
    "text": ("Text model", "title and description of a product"),
    "image": ("Image model", "one photo of a product"),
}

OWN_LIMITS = {
    "text": "- Text beyond {max_tokens} tokens is not read; words of other languages and trades are unknown to it.",
    "image": "- Text in the photo is not read; small details are lost at the backbone's image size.",
}


def model_card(config: Mapping[str, Any], metrics: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Return the card of a version, given its artifact's config and metrics and its dataset's manifest."""
    modality, classes = config["modality"], metrics["classes"]
    title, task = TASKS[modality]
    few = [f"{name} ({row['train']})" for name, row in classes.items() if row["train"] < FEW_PRODUCTS]
    missing = sorted(set(config["labels"]) - set(classes))
    recipe = config.get("recipe", {})
    limits = [OWN_LIMITS[modality].format(max_tokens=config.get("max_tokens", "the window's"))]
    if missing:
        limits.append(f"- No test product, so no figure: {', '.join(missing)}.")
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
        data=_data_section(manifest),
        bins=BINS,
        before=f"{100 * metrics['ece_before']:.1f}",
        overall=markdown_table({"all": dict(metrics)}, "test split", COLUMNS),
        sources=markdown_table(dict(metrics["sources"]), "source", COLUMNS),
        classes=markdown_table(classes, "category"),
        few_limit=FEW_PRODUCTS,
        few=", ".join(few) or "none",
        limits="\n".join(limits),
        json=json.dumps(recipe, indent=1),
    )


def _data_section(manifest: Mapping[str, Any]) -> str:
    splits = manifest["splits"]
    lines = ["| split | products | with text | with photo |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {row['rows']} | {row['with_text']} | {row['with_photo']} |" for name, row in splits.items()]
    return "\n".join([*lines, "", "Sources: " + ", ".join(sorted(manifest["sources"])) + "."])
