"""What a GPU computes: items per second of each encoder's engine beside the bare forward pass, and end to end.

In batches of 1, 8, 32 and 128: the network alone on inputs that lie on the GPU, the engine from inputs in memory to
embeddings, and `predict` from texts and photographs to probabilities. Says so where there is no GPU. See
benchmarks/README.md.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from engines import MODALITIES, stored
from items import Item, gather
from machine import machine
from progress import say, track

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
BATCHES = (1, 8, 32, 128)


def main() -> None:
    options = parse()
    import torch

    load = os.getloadavg()[0]
    figures: dict[str, Any] = {"gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None}
    if figures["gpu"]:
        items, source = gather(options.data, BATCHES[-1])
        figures |= {"items": source, "engines": measure(items, rounds=options.rounds, seconds=options.seconds)}
    figures |= machine() | {"load_at_start": round(load, 2)}
    report(figures, as_json=options.json)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: about a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--data", type=Path, help="folder of product data (default: made-up products)")
    options = parser.parse_args()
    options.rounds, options.seconds = (3, 0.5) if options.quick else (5, 2.0)
    return options


def measure(items: Sequence[Item], *, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Return items per second by model, precision, batch and what is measured."""
    figures: dict[str, dict[str, float]] = {}
    for modality in MODALITIES:
        for precision in ("f32", "bf16"):
            row = figures[f"{modality} {precision}"] = {}
            for batch in track(BATCHES, f"{modality} {precision}"):
                calls = prepare(modality, precision, list(islice(cycle(items), batch)))
                speeds: dict[str, list[float]] = {name: [] for name in calls}
                for number in range(rounds + 1):  # they take turns
                    for name, call in calls.items():
                        speed = batch * rate(call, seconds)
                        if number:  # the first one warms up
                            speeds[name].append(speed)
                row |= {f"{name}_{batch}": round(median(found), 1) for name, found in speeds.items()}
                row[f"engine_vs_bare_{batch}"] = round(row[f"engine_{batch}"] / row[f"bare_{batch}"], 3)
    return figures


def prepare(modality: str, precision: str, items: Sequence[Item]) -> dict[str, Callable[[], Any]]:
    """Return the calls that are timed, for one batch."""
    import torch

    from classifier.ml import engines
    from classifier.ml.image_model import ImageModel, crop
    from classifier.ml.text_model import TextModel, join_text

    folder = ROOT / "classifier" / "starter" / modality
    model: Any = (TextModel if modality == "text" else ImageModel).load(folder, "cuda")
    encoder = model.encoder
    network = encoder.network
    engines.speed_up(encoder, [f"torch {precision} cuda"], threads=engines.cores(), cache=folder)
    if modality == "text":
        texts = [join_text(item.title, item.description) for item in items]
        inputs = encoder._batch(encoder._tokens(texts))
        whole = lambda: model.predict([i.title for i in items], [i.description for i in items])  # noqa: E731
    else:
        photos = [stored(item) for item in items]
        cut = [torch.from_numpy(crop(photo, encoder.preprocess)) for photo in photos]
        inputs = (torch.stack(cut),)
        whole = lambda: model.predict(photos)  # noqa: E731
    there = [tensor.to("cuda") for tensor in inputs]

    @torch.inference_mode()
    def bare() -> None:
        network(*there)
        torch.cuda.synchronize()

    return {"bare": bare, "engine": lambda: [each.cpu() for each in encoder.engine.run([inputs])], "end_to_end": whole}


def rate(call: Callable[[], Any], seconds: float) -> float:
    """Return calls per second."""
    calls, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        call()
        calls += 1
    return calls / (time.perf_counter() - start)


def report(figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    if not figures["gpu"]:
        print("no GPU")
        return
    say(figures["gpu"])
    print(f"{'items/s: bare, engine, end to end':30}" + "".join(f"{f'batch {batch}':>26}" for batch in BATCHES))
    for name, row in figures["engines"].items():
        cells = [
            " ".join(f"{row[f'{what}_{batch}']:8.0f}" for what in ("bare", "engine", "end_to_end")) for batch in BATCHES
        ]
        print(f"{name:30}" + "".join(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    main()
