"""Model cards: what a version was trained on, how good it is, and what it can't do."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.datasets import Product
from training.evaluate import BINS, COLUMNS, table
from training.heads import Fitted, Recipe

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
    "image": "- Text in the picture is not read, and what lies outside the middle square is hardly seen.",
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
        overall=table({"all": dict(metrics)}, "test part", COLUMNS),
        sources=table(dict(metrics["sources"]), "source", COLUMNS),
        classes=table(classes, "category"),
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


COMMON = """
## Training

{trained_on}

The backbone is frozen; only the head is trained. Chosen: **{head}**, by validation log-loss among

{tried}

A product weighs (size of its data set) ^ -{dataset_power} x (weighted mass of its category) ^
-{class_power}, so that one large set does not drown the small ones. The same weights count in the
validation log-loss and in the temperature, which is fitted on the validation part (Guo et al. 2017) and
stored in config.json. The temperature counts only data sets with several categories: where the look of the
set gives the category away, nothing is learnt about doubt between categories. Seed {seed}. Weights are
stored in half precision and were measured so.

Split by a hash of the product into 70 % training, 10 % validation, 20 % test, within every data set.
Products whose titles' words agree to 75 % (digits and case aside) or whose photographs are byte-identical
are in one part, across data sets; so are photographs without a title that the source files under one fine
class.

Sources, in the words of their READMEs, which say what was and was not found. No product, text or photograph
is in this artifact; it holds the head's weights and these figures. Whoever distributes it should weigh that
most sources state no licence or one for non-commercial use.

{sources}

## Figures on the held-back part

Per cent, but log_loss in nats. macro_f1: mean F1 over the categories that occur. ece: expected calibration
error, Guo et al. 2017 equation 3, 15 equally wide bins of the top probability. A data set of one category
has a macro_f1 of that category alone.

{overall}

*Several categories* pools the data sets with more than one: the figure to expect of a seller's upload.

{datasets}

Per category: `train` counts training products; accuracy is recall; ece is taken over the products that were
given the category.

{classes}

## Limits

- Fewer than 200 training products: {thin}.
{limits}
- The labels are a hand-made mapping of each source's own categories to 18; where two sources draw the line
  differently (medicines under Beauty, stationery under Arts), the model has learnt both.
- Home and kitchen goods, furniture, books, music and games have no category here: such a product gets the
  nearest of the 18, often with confidence. The probabilities are honest for products that belong to one of
  the 18.
- The sources are British, American and Indian shops of 2015 to 2023. A shop of another kind, place or year
  will see lower accuracy and looser calibration; that is what the monitors watch.
"""

TRAINED_ON = {
    "text": "Every product with a title or a description and one of the 18 labels.",
    "image": "Every product with a photograph and one of the 18 labels.",
}

LIMITS = {
    "text": """- amazon_in_titles is more than half of the products and bare titles; Indian shops' wording is
  over-represented, and retail_demo_text's machine-written descriptions name their category, so its figures are
  too good.
- The encoder knows English; the Spanish, Indonesian, Thai, Vietnamese, Malay, Portuguese and Chinese products of
  marketplace_multilingual are read by what English words, brands and numbers they hold.
- What stands beyond 128 tokens (some 90 words) is not read.""",
    "image": """\
- All of Automotive and Musical Instruments, half of Grocery & Gourmet Food and most of Clothing, Shoes &
  Jewelry come from sets of one category each, whose look (catalogue thumbnails, one shop's shelves, web pictures
  of lone parts) gives the category away. Their figures are too good: a seller's own picture of a guitar or a
  brake disc is harder.
- gumtree_listings alone holds sellers' own photographs; its row is the nearest to a seller's upload.
- ecommerce_images9 has noisy labels, and maps medicines to Beauty and toys and stationery to Arts, Crafts & Sewing.
- Text in the picture is not read, and what lies outside the middle square is not seen.""",
}

TEXT = (
    """# Starter text model

For Aisle: title and description of a product in, probabilities of 18 categories out. It serves a fresh
installation until the shop's own feedback has trained a better one, and is no ground for any decision about
a person or a seller.

The encoder is `{backbone}` (Apache-2.0, Hugging Face sentence-transformers) with mean pooling to a unit
vector; it reads the first 128 tokens of the title, a line break and the description.
"""
    + COMMON
)

IMAGE = (
    """# Starter image model

For Aisle: one photograph of a product in, probabilities of 18 categories out. It serves a fresh
installation until the shop's own feedback has trained a better one, and is no ground for any decision about
a person or a seller.

The encoder is `{backbone}` (EfficientNet-Lite0, TensorFlow's ImageNet weights in a PyTorch port) with
average pooling to a unit vector; it sees the middle square (7/8 of the short side) at 224 pixels.
"""
    + COMMON
)


def card(
    recipe: Recipe,
    fitted: Sequence[Fitted],
    train: Sequence[Product],
    test: Sequence[Product],
    metrics: dict[str, Any],
    data: Path,
) -> str:
    """Return the card of the first of the `fitted` heads, with the words of the data sets' own READMEs."""
    best, classes = fitted[0], metrics["classes"]
    thin = [f"{name} ({row['train']})" for name, row in classes.items() if row["train"] < 200]
    tried = [
        f"| {_head_name(candidate)} | {candidate.log_loss:.4f} | {candidate.temperature:.2f} |" for candidate in fitted
    ]
    counts = Counter(product.dataset for product in train)
    tested = Counter(product.dataset for product in test)
    sources = [
        f"- **{name}** ({counts[name]} for training, {tested[name]} held back). {_stated(data / name)}"
        for name in sorted(counts)
    ]
    fields = {
        "backbone": recipe.backbone,
        "head": _head_name(best),
        "tried": "\n".join(["| head | validation log-loss | temperature |", "|---|---:|---:|", *tried]),
        "dataset_power": str(recipe.dataset_power),
        "class_power": str(recipe.class_power),
        "seed": str(recipe.seed),
        "sources": "\n".join(sources),
        "overall": table({"all": metrics, "several categories": metrics["several"]}, "held-back part", COLUMNS),
        "datasets": table(metrics["datasets"], "data set", COLUMNS),
        "classes": table(classes, "category"),
        "trained_on": TRAINED_ON[recipe.modality],
        "limits": LIMITS[recipe.modality],
        "thin": ", ".join(thin) or "none",
    }
    return (TEXT if recipe.modality == "text" else IMAGE).format(**fields)


def _head_name(fitted: Fitted) -> str:
    recipe = fitted.recipe
    if not recipe.hidden:
        return f"linear, L2 {recipe.weight_decay:g}"
    return f"{recipe.hidden} hidden units, dropout {recipe.dropout:g}, weight decay {recipe.weight_decay:g}"


def _stated(folder: Path) -> str:
    """Return source and licence in the words of the data set's own README."""
    path = folder / "README.md"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    stated = [line.removeprefix("- ") for line in lines if line.startswith(("- Source:", "- Licence as found:"))]
    return " ".join(stated) or "Source and licence: not stated."
