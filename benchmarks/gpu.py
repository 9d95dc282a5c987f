"""Measure items per second on a GPU: each encoder's engine, the bare forward pass, and end to end.

In batches of 1, 8, 32 and 128: the network alone on inputs that lie on the GPU, the engine from inputs in memory to
embeddings, and `predict` from texts and photographs to probabilities. Says so where there is no GPU. See
benchmarks/README.md.
"""

import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from statistics import median
from typing import Any

from benchmarks.engines import MODALITIES, small_copy
from benchmarks.harness.command_line import Figures, Options, add_data_option, run_benchmark
from benchmarks.harness.items import Item, gather_items
from benchmarks.harness.products import STARTER
from benchmarks.harness.progress import track_progress

BATCHES = (1, 8, 32, 128)


def measure_gpu(options: Options) -> Figures:
    """Return items per second on the GPU; `gpu` is None on a machine without one."""
    import torch

    if not torch.cuda.is_available():
        return {"gpu": None}
    rounds, seconds = (3, 0.5) if options.quick else (5, 2.0)
    items, source = gather_items(options.data, BATCHES[-1])
    speeds = measure_speeds(items, rounds=rounds, seconds=seconds)
    return {"gpu": torch.cuda.get_device_name(), "items": source, "engines": speeds}


def measure_speeds(items: Sequence[Item], *, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Return items per second by model, precision, batch and what is measured."""
    figures: dict[str, dict[str, float]] = {}
    for modality in MODALITIES:
        for precision in ("f32", "bf16"):
            row = figures[f"{modality} {precision}"] = {}
            for batch in track_progress(BATCHES, f"{modality} {precision}"):
                calls = prepare_calls(modality, precision, list(islice(cycle(items), batch)))
                speeds: dict[str, list[float]] = {name: [] for name in calls}
                for number in range(rounds + 1):  # they take turns
                    for name, call in calls.items():
                        speed = batch * calls_per_second(call, seconds)
                        if number:  # the first one warms up
                            speeds[name].append(speed)
                row |= {f"{name}_{batch}": round(median(found), 1) for name, found in speeds.items()}
                row[f"engine_vs_bare_{batch}"] = round(row[f"engine_{batch}"] / row[f"bare_{batch}"], 3)
    return figures


def prepare_calls(modality: str, precision: str, items: Sequence[Item]) -> dict[str, Callable[[], Any]]:
    """Return the calls that are timed, for one batch."""
    import torch

    from classifier.ml import engines
    from classifier.ml.image_model import ImageModel, crop_image
    from classifier.ml.text_model import TextModel, join_text

    folder = STARTER / modality
    model: Any = (TextModel if modality == "text" else ImageModel).load(folder, "cuda")
    encoder = model.encoder
    network = encoder.network
    engines.select_engine(encoder, [f"torch {precision} cuda"], threads=engines.usable_cores(), cache=folder)
    if modality == "text":
        texts = [join_text(item.title, item.description) for item in items]
        inputs = encoder._batch(encoder._tokens(texts))
        whole = lambda: model.predict_texts([i.title for i in items], [i.description for i in items])  # noqa: E731
    else:
        photos = [small_copy(item) for item in items]
        cut = [torch.from_numpy(crop_image(photo, encoder.preprocess)) for photo in photos]
        inputs = (torch.stack(cut),)
        whole = lambda: model.predict_images(photos)  # noqa: E731
    there = [tensor.to("cuda") for tensor in inputs]

    @torch.inference_mode()
    def bare() -> None:
        network(*there)
        torch.cuda.synchronize()

    return {"bare": bare, "engine": lambda: [each.cpu() for each in encoder.engine.run([inputs])], "end_to_end": whole}


def calls_per_second(call: Callable[[], Any], seconds: float) -> float:
    """Return calls per second."""
    calls, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        call()
        calls += 1
    return calls / (time.perf_counter() - start)


def print_report(figures: Figures) -> None:
    """Print a row for each model and precision, a column for each batch size."""
    if not figures["gpu"]:
        print("no GPU")
        return
    print(figures["gpu"])
    print(f"{'items/s: bare, engine, end to end':30}" + "".join(f"{f'batch {batch}':>26}" for batch in BATCHES))
    for name, row in figures["engines"].items():
        cells = []
        for batch in BATCHES:
            cells.append(" ".join(f"{row[f'{what}_{batch}']:8.0f}" for what in ("bare", "engine", "end_to_end")))
        print(f"{name:30}" + "".join(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_gpu, print_report=print_report, add_options=add_data_option,
        quick="fewer repetitions: about a minute",
    )  # fmt: skip
