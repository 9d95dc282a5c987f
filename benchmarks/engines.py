"""Measure the processor time of each model by engine and batch, compared with torch in float32.

Measures `predict` of the starter models: tokenizing, the cut of the picture, the encoder, the head. See
benchmarks/README.md.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from benchmarks.harness.command_line import Figures, Options, add_found_data_option, run_benchmark
from benchmarks.harness.items import Item, gather_items
from benchmarks.harness.products import STARTER
from benchmarks.harness.progress import log_step, track_progress

BATCHES = (1, 8, 32)
MODALITIES = ("text", "image")
Call = Callable[[Sequence[Any]], Any]


def measure_engines(options: Options) -> Figures:
    """Return what an item costs with each engine, and how much running both models side by side gains."""
    rows, rounds = (32, 2) if options.quick else (64, 7)
    items, source = gather_items(options.data, rows)
    with tempfile.TemporaryDirectory(prefix="aisle-engines-") as cache:
        figures = time_engines(items, Path(cache), rounds=rounds, threads=options.threads)
    return figures | {"threads": options.threads, "items": source}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --threads and --data."""
    parser.add_argument("--threads", type=int, default=1, help="cores that each engine may use (default: 1)")
    add_found_data_option(parser)


def time_engines(items: Sequence[Item], cache: Path, *, rounds: int, threads: int) -> Figures:
    """Return the processor time of an item by model, engine and batch size."""
    import torch

    from classifier.ml import engines
    from classifier.ml.encoders import pick_device

    torch.set_num_threads(threads)
    device = pick_device(None)
    kind = "openvino" if device.type == "cpu" else "torch"
    reference = f"torch f32 {device.type}"
    fast = [f"{kind} {precision} {device.type}" for precision in engines.fast_precisions(kind, device)]
    names = list(dict.fromkeys([reference, *reversed(fast)]))
    calls: dict[tuple[str, str], Call] = {}
    for modality in MODALITIES:
        for name in names:
            log_step(f"Loading {modality} with {name}")
            calls[modality, name] = load_model(modality, name, cache, threads)
    inputs: dict[str, list[Any]] = {"text": list(items), "image": [small_copy(item) for item in items]}

    # The engines take turns, so that a busy moment of the machine hits all of them.
    spent: dict[tuple[str, str, int], list[float]] = {}
    for number in track_progress(range(rounds + 1), "Rounds"):
        for (modality, name), call in calls.items():
            for batch in BATCHES:
                milliseconds = processor_time(call, inputs[modality], batch)
                if number:  # the first one warms up
                    spent.setdefault((modality, name, batch), []).append(milliseconds)
    figures: dict[str, Any] = {"reference": reference, "engines": {}}
    for modality in MODALITIES:
        for name in names:
            row: dict[str, float] = {}
            for batch in BATCHES:
                own, base = (median(spent[modality, each, batch]) for each in (name, reference))
                row |= {f"cpu_ms_{batch}": round(own, 2), f"vs_reference_{batch}": round(base / own, 2)}
            figures["engines"][f"{modality} {name}"] = row
    best = [calls[modality, names[-1]] for modality in MODALITIES]
    figures["side_by_side"] = round(side_by_side_gain(best, inputs, rounds), 2)
    return figures


def load_model(modality: str, name: str, cache: Path, threads: int) -> Call:
    """Return a function that answers a batch with one starter model on the named engine."""
    from classifier.ml import engines
    from classifier.ml.image_model import ImageModel
    from classifier.ml.text_model import TextModel

    folder = STARTER / modality
    model: Any = TextModel.load(folder) if modality == "text" else ImageModel.load(folder)
    engines.select_engine(model.encoder, [name], threads=threads, cache=cache)
    if model.engine != name:
        sys.exit(f"{name} can't be used here.")
    if modality == "text":
        return lambda some: model.predict_texts([item.title for item in some], [item.description for item in some])
    return lambda some: model.predict_images(some)


def small_copy(item: Item) -> Image.Image:
    """Return the small copy that the models read, decoded."""
    from common.photos.copies import make_copies

    return Image.open(io.BytesIO(make_copies(item.photo)[1])).convert("RGB")


def processor_time(call: Call, inputs: Sequence[Any], batch: int) -> float:
    """Return the milliseconds of processor time, of all threads, that an item costs in batches of this size."""
    rows = list(islice(cycle(inputs), max(batch, 8)))
    start = time.process_time()
    for at in range(0, len(rows), batch):
        call(rows[at : at + batch])
    return (time.process_time() - start) * 1000 / len(rows)


def side_by_side_gain(calls: Sequence[Call], inputs: dict[str, list[Any]], rounds: int) -> float:
    """Return how many times as fast both models answer a batch in two threads as one after the other."""
    batches = [list(islice(cycle(inputs[modality]), 32)) for modality in MODALITIES]
    alone, together = [], []
    with ThreadPoolExecutor(2) as threads:
        for _ in range(rounds):
            start = time.perf_counter()
            for call, batch in zip(calls, batches, strict=True):
                call(batch)
            middle = time.perf_counter()
            list(threads.map(lambda pair: pair[0](pair[1]), zip(calls, batches, strict=True)))
            alone.append(middle - start)
            together.append(time.perf_counter() - middle)
    return median(alone) / median(together)


def print_report(figures: Figures) -> None:
    """Print a row for each model and engine, a column for each batch size."""
    print(f"{'CPU-ms an item (times the reference)':38}" + "".join(f"{f'batch {batch}':>18}" for batch in BATCHES))
    for name, row in figures["engines"].items():
        cells = [f"{row[f'cpu_ms_{batch}']:9.1f} ({row[f'vs_reference_{batch}']:4.1f}x)" for batch in BATCHES]
        print(f"{name:38}" + "".join(f"{cell:>18}" for cell in cells))
    print(f"Text and image side by side instead of one after the other: {figures['side_by_side']}x as fast")
    print(f"\n{figures['items']} products, {figures['threads']} threads an engine")


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_engines, print_report=print_report, add_options=add_options,
        quick="fewer repetitions: about a minute",
    )  # fmt: skip
