"""Run the models without the portal, as the baseline of Aisle's speed."""

import io
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

from PIL import Image

from benchmarks.harness.items import Item

# Between two single uploads, for what the last one left to archive. A processor that slept is slower for a moment, so
# the bare models are asked after the same pause.
PAUSE = 0.1  # seconds


@dataclass(frozen=True)
class StoredItem:
    """An item whose photograph the portal has cleaned and stored."""

    title: str
    description: str
    small: str
    photo: dict[str, Any]  # the names of its copies


class BareModels:
    """The deployed models in one process, without the portal."""

    def __init__(self) -> None:
        from classifier.registry import model_cache, traffic

        variants = traffic.live_variants_by_modality()
        self.text: Any = model_cache.load_model(variants["text"][0].version)
        self.image: Any = model_cache.load_model(variants["image"][0].version)

    def one(self, item: Item) -> float:
        """Return the milliseconds to decode the upload, to make its two clean copies and to run both models."""
        from common.photos import copies

        time.sleep(PAUSE)
        start = time.perf_counter()
        small = copies.make_copies(item.photo)[1]
        self.text.predict_texts([item.title], [item.description])
        self.image.predict_images([Image.open(io.BytesIO(small)).convert("RGB")])
        return (time.perf_counter() - start) * 1000

    def many(self, rows: Sequence[StoredItem]) -> float:
        """Return the seconds to decode the stored photographs and to run both models, in batches of 32."""
        from django.core.files.storage import default_storage

        start = time.perf_counter()
        for at in range(0, len(rows), 32):
            batch = rows[at : at + 32]
            photos = []
            for row in batch:
                with default_storage.open(row.small) as file:
                    photos.append(Image.open(file).convert("RGB"))
            self.text.predict_texts([row.title for row in batch], [row.description for row in batch])
            self.image.predict_images(photos)
        return time.perf_counter() - start


class EagerModels(BareModels):
    """The same with torch eager in float32, channels_last: the plain way to run them."""

    def __init__(self) -> None:
        from classifier.registry import model_cache, traffic

        variants = traffic.live_variants_by_modality()
        names = ("torch f32 cpu",)
        self.text = model_cache.load_uncached(variants["text"][0].version, names)
        self.image = model_cache.load_uncached(variants["image"][0].version, names)


def time_side_by_side(cores: Sequence[int], rows: Sequence[StoredItem]) -> float:
    """Return the seconds that as many processes need for their equal shares, each on one core with one thread.

    What two cores of this machine are worth, when nothing is shared but memory and caches.
    """
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(len(cores))
    seconds = context.SimpleQueue()
    environment = {name: os.environ.get(name) for name in ("ENGINE_THREADS", "OMP_NUM_THREADS")}
    os.environ |= dict.fromkeys(environment, "1")
    processes = [
        context.Process(target=_on_core, args=(core, rows[at :: len(cores)], start, seconds))
        for at, core in enumerate(cores)
    ]
    for process in processes:
        process.start()
    for name, value in environment.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value
    slowest = max(float(seconds.get()) for _process in processes)
    for process in processes:
        process.join()
    return slowest


def _on_core(core: int, rows: Sequence[StoredItem], start: Barrier, seconds: Any) -> None:
    os.sched_setaffinity(0, {core})
    import django

    django.setup()
    bare = BareModels()
    bare.many(rows[:32])
    start.wait()
    seconds.put(bare.many(rows))
