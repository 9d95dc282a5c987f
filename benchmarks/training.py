"""Measure how fast a text encoder is fine-tuned: through Aisle's training path, and in a plain PyTorch loop.

Both train the same weights of the same model on the same batches, in the same precision; the rounds take turns. Aisle's
side is the whole stage: order, progress, learning rates, a checkpoint and a small validation part at its end. On a GPU
the bare forward and backward pass over one batch that lies in its memory is shown too. See benchmarks/README.md.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import Figures, Options, add_found_data_option, run_benchmark
from benchmarks.harness.products import product_tables, read_rows
from benchmarks.harness.report import print_rows

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # as training.fit sets it, before torch is loaded

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.harness.items import PRODUCTS, VARIANTS
from benchmarks.harness.progress import track_progress
from classifier.ml.encoders import load_text_backbone, pick_device
from classifier.ml.text_model import join_text
from training.fit.batches import EpochOrder, RowTargets, TokenRows
from training.fit.features import Tokens
from training.fit.networks import Network, Scale, TextBody, new_head, parameter_groups, unfreeze_layers
from training.fit.progress import Progress
from training.fit.recipes import Recipe, TextRecipe, named_recipe
from training.fit.stage_codes import RunStage
from training.fit.stages import Stage
from training.fit.trainer import BETAS, TrainerTask, train_stage
from training.fit.trainer_arguments import uses_bf16

CLASSES = 18
VALIDATION_ROWS = 32


def measure_training(options: Options) -> Figures:
    """Return texts per second through Aisle's training path and in a plain loop."""
    rounds = 2 if options.quick else 5
    rows = options.rows or (256 if options.quick else 1_024)
    recipe = named_recipe("text", options.recipe).with_changes(epochs=1, batch_size=options.batch_size)
    texts, source = gather_texts(options.data, rows + VALIDATION_ROWS)
    figures = compare_loops(recipe, texts, rounds=rounds)
    return figures | {"items": source, "rows": rows, "recipe": recipe.name, "batch_size": recipe.batch_size}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --recipe, --batch-size, --rows and --data."""
    parser.add_argument("--recipe", default="partial", choices=["lora", "partial", "full"])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rows", type=int, help="texts in a round (default: 1024, quick: 256)")
    add_found_data_option(parser)


def gather_texts(data: Path | None, rows: int) -> tuple[list[str], str]:
    """Return the texts of products, as a model reads them, and where they come from."""
    source = real_texts(data) if data else made_texts()
    texts = list(islice(source, rows))
    if len(texts) < rows:
        sys.exit(f"{data} holds {len(texts)} products with both texts; {rows} are needed.")
    return texts, "real" if data else "made up"


def real_texts(data: Path) -> Iterator[str]:
    """Yield the texts of products that have a title and a description."""
    for table in product_tables(data):
        for row in read_rows(table):
            if row["title"] and row["description"]:
                yield join_text(row["title"], row["description"])


def made_texts() -> Iterator[str]:
    """Yield made-up texts without end."""
    random = np.random.default_rng(18)
    while True:
        title, description = PRODUCTS[random.integers(len(PRODUCTS))]
        more = [PRODUCTS[random.integers(len(PRODUCTS))][1] for _ in range(int(random.integers(0, 5)))]
        yield join_text(title + VARIANTS[random.integers(len(VARIANTS))], " ".join([description, *more]))


def compare_loops(recipe: Recipe, texts: Sequence[str], *, rounds: int) -> dict[str, Any]:
    train_rows, validation_rows = rows_of(recipe, texts)
    ours, plain = [], []
    through_trainer(recipe, validation_rows, validation_rows)  # imports and first allocations
    for _ in track_progress(range(rounds), f"{len(train_rows)} texts, both ways"):
        ours.append(through_trainer(recipe, train_rows, validation_rows))
        plain.append(plain_loop(recipe, train_rows))
    figures = {
        "aisle_per_second": round(len(train_rows) / statistics.median(ours), 1),
        "plain_per_second": round(len(train_rows) / statistics.median(plain), 1),
        "aisle_vs_plain": round(statistics.median(plain) / statistics.median(ours), 3),
        "precision": "bf16" if uses_bf16(recipe) else "fp32",
    }
    if torch.cuda.is_available():
        figures["bare_step_per_second"] = round(bare_step(recipe, train_rows), 1)
    return figures


def rows_of(recipe: Recipe, texts: Sequence[str]) -> tuple[TokenRows, TokenRows]:
    """Return tokenized rows to train with and to validate with."""
    assert isinstance(recipe, TextRecipe)
    tokenizer, _ = load_text_backbone(recipe.backbone)
    ids = tokenizer(list(texts), truncation=True, max_length=recipe.max_tokens)["input_ids"]
    parts = []
    for part in (ids[:-VALIDATION_ROWS], ids[-VALIDATION_ROWS:]):
        starts = np.concatenate([[0], np.cumsum([len(row) for row in part])])
        tokens = Tokens(np.concatenate([np.array(row, np.int32) for row in part]), starts)
        goals = RowTargets(np.arange(len(part)) % CLASSES, np.ones(len(part), np.float32))
        parts.append(TokenRows(tokens, goals, padding=tokenizer.pad_token_id))
    return parts[0], parts[1]


def network_of(recipe: Recipe) -> Network:
    """Return a new network of the recipe, with the same weights every time."""
    torch.manual_seed(recipe.seed)
    _, encoder = load_text_backbone(recipe.backbone)
    unfreeze_layers(encoder, recipe)
    dim = int(encoder.config.hidden_size)  # type: ignore[union-attr,arg-type]
    scale = Scale(torch.zeros(dim), torch.ones(dim))
    return Network(TextBody(encoder), new_head(dim, CLASSES, recipe), scale, recipe.dropout)


def through_trainer(recipe: Recipe, rows: TokenRows, validation: TokenRows) -> float:
    """Return the seconds of one epoch as `python -m training.fit` trains it."""
    network = network_of(recipe)
    with tempfile.TemporaryDirectory() as folder:
        task = TrainerTask(RunStage.TEXT_ENCODER, network, rows, validation, recipe, joint=True)
        stage, progress = Stage(Path(folder) / "stage", "benchmark"), Progress(Path(folder))
        start = time.perf_counter()
        train_stage(task, stage, progress)
        return time.perf_counter() - start


def plain_loop(recipe: Recipe, rows: TokenRows) -> float:
    """Return the seconds of one epoch over the same batches with nothing round it."""
    device = pick_device(None)
    network = network_of(recipe).to(device).train()
    optimizer = torch.optim.AdamW(parameter_groups(network, recipe, joint=True), betas=BETAS)
    learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
    order = list(EpochOrder(len(rows), batch_size=recipe.batch_size, seed=recipe.seed, lengths=rows.lengths))
    start = time.perf_counter()
    for at in range(0, len(order), recipe.batch_size):
        batch = rows.__getitems__(order[at : at + recipe.batch_size])
        batch = {name: value.to(device) for name, value in batch.items()}
        forward_and_backward(network, batch, recipe)
        torch.nn.utils.clip_grad_norm_(learnt, recipe.clip)
        optimizer.step()
        optimizer.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def forward_and_backward(network: Network, batch: dict[str, torch.Tensor], recipe: Recipe) -> None:
    with torch.autocast(batch["labels"].device.type, torch.bfloat16, enabled=uses_bf16(recipe)):
        logits = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    (cross_entropy(logits.float(), batch["labels"], reduction="none") * batch["weights"]).mean().backward()


def bare_step(recipe: Recipe, rows: TokenRows, *, steps: int = 50) -> float:
    """Return items a second of forward and backward passes over one batch that lies in the GPU's memory."""
    device = pick_device(None)
    network = network_of(recipe).to(device).train()
    assert rows.lengths is not None
    middle = np.argsort(rows.lengths)[len(rows) // 2 :][: recipe.batch_size].tolist()
    batch = {name: value.to(device) for name, value in rows.__getitems__(middle).items()}
    for measured in (False, True):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(steps if measured else 5):
            forward_and_backward(network, batch, recipe)
        torch.cuda.synchronize()
    return steps * len(middle) / (time.perf_counter() - start)


def print_report(figures: Figures) -> None:
    """Print the speeds and their ratio."""
    rows = [
        ("Aisle's training path", f"{figures['aisle_per_second']} texts/s"),
        ("Plain PyTorch loop", f"{figures['plain_per_second']} texts/s"),
        ("Aisle / plain", f"{figures['aisle_vs_plain']:.2f}"),
    ]
    if "bare_step_per_second" in figures:
        rows.append(("Bare forward and backward pass", f"{figures['bare_step_per_second']} texts/s"))
    print_rows(rows)
    print(
        f"\n{figures['items']} texts, recipe {figures['recipe']}, {figures['rows']} rows in batches of "
        f"{figures['batch_size']}, {figures['precision']}"
    )


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_training, print_report=print_report, add_options=add_options,
        quick="fewer rows and rounds: about a minute",
    )  # fmt: skip
