"""What one answer of each model costs, by engine and batch: processor time beside torch in float32, in one run.

Measures `predict` of the starter models: tokenizing, the cut of the picture, the encoder, the head. See
benchmarks/README.md.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from items import Item, gather
from machine import machine
from PIL import Image
from progress import say, track

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
BATCHES = (1, 8, 32)
MODALITIES = ("text", "image")
Call = Callable[[Sequence[Any]], Any]


def main() -> None:
    options = parse()
    load = os.getloadavg()[0]
    items, source = gather(options.data, options.rows)
    with tempfile.TemporaryDirectory(prefix="aisle-engines-") as cache:
        figures = measure(items, Path(cache), rounds=options.rounds, threads=options.threads)
    figures |= machine() | {"threads": options.threads, "load_at_start": round(load, 2), "items": source}
    report(figures, as_json=options.json)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: about a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--threads", type=int, default=1, help="cores that each engine may use (default: 1)")
    parser.add_argument("--data", type=Path, help="folder of product data (default: ../shared/data, else made up)")
    options = parser.parse_args()
    options.rows, options.rounds = (32, 2) if options.quick else (64, 7)
    shared = ROOT.parent / "shared" / "data"
    if options.data is None and shared.is_dir():
        options.data = shared
    return options


def measure(items: Sequence[Item], cache: Path, *, rounds: int, threads: int) -> dict[str, Any]:
    import torch

    from classifier.ml import engines
    from classifier.ml.encoders import pick_device

    torch.set_num_threads(threads)
    device = pick_device(None)
    kind = "openvino" if device.type == "cpu" else "torch"
    reference = f"torch f32 {device.type}"
    fast = [f"{kind} {precision} {device.type}" for precision in engines.precisions(kind, device)]
    names = list(dict.fromkeys([reference, *reversed(fast)]))
    calls: dict[tuple[str, str], Call] = {}
    for modality in MODALITIES:
        for name in names:
            say(f"Loading {modality} with {name}")
            calls[modality, name] = load(modality, name, cache, threads)
    inputs = {"text": list(items), "image": [stored(item) for item in items]}

    # The engines take turns, so that a busy moment of the machine hits all of them.
    spent: dict[tuple[str, str, int], list[float]] = {}
    for number in track(range(rounds + 1), "Rounds"):
        for (modality, name), call in calls.items():
            for batch in BATCHES:
                milliseconds = cost(call, inputs[modality], batch)
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
    figures["side_by_side"] = round(side_by_side(best, inputs, rounds), 2)
    return figures


def load(modality: str, name: str, cache: Path, threads: int) -> Call:
    from classifier.ml import engines
    from classifier.ml.image_model import ImageModel
    from classifier.ml.text_model import TextModel

    folder = ROOT / "classifier" / "starter" / modality
    model: Any = TextModel.load(folder) if modality == "text" else ImageModel.load(folder)
    engines.speed_up(model.encoder, [name], threads=threads, cache=cache)
    if model.engine != name:
        sys.exit(f"{name} can't be used here.")
    if modality == "text":
        return lambda some: model.predict([item.title for item in some], [item.description for item in some])
    return lambda some: model.predict(some)


def stored(item: Item) -> Image.Image:
    """Return the small copy that the models read, decoded."""
    from common.photos.copies import make_copies

    return Image.open(io.BytesIO(make_copies(item.photo)[1])).convert("RGB")


def cost(call: Call, inputs: Sequence[Any], batch: int) -> float:
    """Return the milliseconds of processor time, of all threads, that an item costs in batches of this size."""
    rows = list(islice(cycle(inputs), max(batch, 8)))
    start = time.process_time()
    for at in range(0, len(rows), batch):
        call(rows[at : at + batch])
    return (time.process_time() - start) * 1000 / len(rows)


def side_by_side(calls: Sequence[Call], inputs: dict[str, list[Any]], rounds: int) -> float:
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


def report(figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    print(f"{'CPU-ms an item (times the reference)':38}" + "".join(f"{f'batch {batch}':>18}" for batch in BATCHES))
    for name, row in figures["engines"].items():
        cells = [f"{row[f'cpu_ms_{batch}']:9.1f} ({row[f'vs_reference_{batch}']:4.1f}x)" for batch in BATCHES]
        print(f"{name:38}" + "".join(f"{cell:>18}" for cell in cells))
    print(f"Text and image side by side instead of one after the other: {figures['side_by_side']}x as fast")
    print(
        f"\n{figures['items']} products, {figures['threads']} threads an engine; {figures['cores']} cores of "
        f"{figures['cpu']}, {figures['device']}, torch {figures['torch']}, load {figures['load_at_start']} at the start"
    )


if __name__ == "__main__":
    main()
