"""Measure the processor time of one upload through the API, part by part.

Uploads products in this process, through Django's handler without a web server, answers them in batches and archives
them, over embedded servers in a temporary folder; nothing runs beside it. See benchmarks/README.md.
"""

import gc
import io
import pkgutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
from PIL import Image

from benchmarks.harness.command_line import Figures, Options, add_data_option, run_benchmark
from benchmarks.harness.items import Item, gather_items
from benchmarks.harness.multipart import multipart_body
from benchmarks.harness.processor_time import ProcessorSeconds, Roles, embedded_servers
from benchmarks.harness.progress import log_step
from benchmarks.harness.stack import create_seller, prepare_database, set_up_home

WARM = 8
# What is taken out of a step: where it is looked up -> its name.
PARTS = {
    "portal.products.photos.decode_upload": "asking the decoder",
    "django.core.files.storage.FileSystemStorage.save": "files",
    "django.http.multipartparser.MultiPartParser.parse": "multipart",
    "celery.app.task.Task.apply_async": "notifications",
    "django.db.backends.utils.CursorWrapper.execute": "driver of the database",
    "classifier.serving.batch.read_photos": "reading and decoding the small copies",
    "classifier.serving.batch.answer": "both models",
    "classifier.serving.results.store_results": "storing the results",
}


def measure_request(options: Options) -> Figures:
    """Return the processor time of an upload by step and part."""
    items, source = gather_items(options.data, 64 if options.quick else 320)
    set_up_home()
    prepare_database()
    return measure_steps(items) | {"items": source, "requests": len(items)}


# The measurements


class Meter:
    """Processor time of this process by part; what runs inside another part counts once, as itself.

    Only one thing happens at a time here, so the threads that a part starts are its own.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._book()
        self._open.append(name)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def _book(self) -> None:
        now = time.process_time()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def watch(self, address: str, name: str) -> None:
        """Let a function count as a part whenever another part calls it."""
        path, _, attribute = address.rpartition(".")
        owner = pkgutil.resolve_name(path)
        function = getattr(owner, attribute)
        thread = threading.get_ident()

        def metered(*args: Any, **kwargs: Any) -> Any:
            if not self._open or threading.get_ident() != thread:
                return function(*args, **kwargs)
            with self.part(name):
                return function(*args, **kwargs)

        setattr(owner, attribute, metered)


def measure_steps(items: Sequence[Item]) -> dict[str, Any]:
    """Return CPU-ms a request by step and part."""
    from django.test import Client

    from classifier.models import Prediction
    from classifier.serving.batch import classify_claimed
    from classifier.tasks import archive_pending

    meter = Meter()
    for address, name in PARTS.items():
        meter.watch(address, name)
    seller = Client(headers={"authorization": f"Bearer {create_seller()[1]}"}, SERVER_NAME="localhost")

    def upload(some: Sequence[Item]) -> None:
        for item in some:
            body, content_type = multipart_body(item.photo, title=item.title, description=item.description)
            response = seller.generic("POST", "/api/v1/predictions", body, content_type)
            assert response.status_code == 202, response.content

    def predict() -> None:
        while batch := Prediction.objects.claim(limit=32):
            classify_claimed(batch)

    def archive() -> None:
        while Prediction.objects.filter(archived_at=None).exists():
            archive_pending()

    steps: dict[str, Callable[[], None]] = {"web": lambda: upload(items), "worker": predict, "archive": archive}
    upload(items[:WARM])
    predict()
    archive()
    gc.freeze()  # a web process has no models, whose objects would be looked through again and again
    figures: dict[str, Any] = {}
    for step, work in steps.items():
        log_step(f"{len(items)} requests: {step}")
        meter.seconds.clear()
        before = ProcessorSeconds(helper_processes())
        with meter.part("the rest"):
            work()
        spent = meter.seconds | ProcessorSeconds(helper_processes()).since(before)
        figures[step] = {name: round(seconds * 1000 / len(items), 2) for name, seconds in spent.items()}
    assert Prediction.objects.filter(state="done").count() == len(items) + WARM, "some predictions failed"
    figures["models"] = measure_models(items)
    return figures


def helper_processes() -> Roles:
    """Return the processes that work for this one: the embedded servers, and the decoders of photographs."""
    from common.photo_decoding import upload_decoders

    return embedded_servers() | {"decoder": [psutil.Process(pid) for pid in upload_decoders().processes]}


def measure_models(items: Sequence[Item]) -> dict[str, float]:
    """Return CPU-ms an item of each model alone, in batches of 32: its input and all of it."""
    from classifier.ml.image_model import crop_image
    from classifier.ml.text_model import join_text
    from classifier.registry import model_cache, traffic

    deployed = traffic.live_variants_by_modality()
    text: Any = model_cache.load_model(deployed["text"][0].version)
    image: Any = model_cache.load_model(deployed["image"][0].version)
    photos = [small_copy(item) for item in items]
    texts = [join_text(item.title, item.description) for item in items]
    works: dict[str, Callable[[slice], Any]] = {
        "text: tokenizing": lambda some: text.encoder.tokenizer(
            texts[some], truncation=True, max_length=text.encoder.max_tokens
        ),
        "text: all": lambda some: text.predict_texts(
            [item.title for item in items[some]], [item.description for item in items[some]]
        ),
        "image: cutting": lambda some: [crop_image(photo, image.encoder.preprocess) for photo in photos[some]],
        "image: all": lambda some: image.predict_images(photos[some]),
    }
    spent: dict[str, float] = {}
    for name, work in works.items():
        work(slice(32))
        start = time.process_time()
        for at in range(0, len(items), 32):
            work(slice(at, at + 32))
        spent[name] = round((time.process_time() - start) * 1000 / len(items), 2)
    return spent


def small_copy(item: Item) -> Image.Image:
    """Return the small copy that the models read, decoded."""
    from common.photos.copies import make_copies

    return Image.open(io.BytesIO(make_copies(item.photo)[1])).convert("RGB")


# The report


def print_report(figures: Figures) -> None:
    """Print each step with its parts, the largest first."""
    print("CPU-ms a request")
    for step in ("web", "worker", "archive", "models"):
        rows = figures[step]
        total = "" if step == "models" else f"{sum(rows.values()):8.1f}"
        print(f"{step:42}{total}")
        for name, milliseconds in sorted(rows.items(), key=lambda row: -row[1]):
            print(f"  {name:40}{milliseconds:8.1f}")
    print(f"\n{figures['requests']} {figures['items']} products")


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_request, print_report=print_report, add_options=add_data_option,
        quick="fewer repetitions: about half a minute",
    )  # fmt: skip
