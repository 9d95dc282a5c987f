"""The starter models as the other servers serve them: out of the box, or with Aisle's own engine and decoder."""

import io
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SIDE = 256  # the short side that a decoder may reduce a photograph to
Upload = tuple[str, str, bytes]  # title, description, photograph

# What benchmarks.servers sets.
ENGINE = os.environ["RIVAL_ENGINE"]  # eager or aisle
WORKERS = int(os.environ["RIVAL_WORKERS"])
THREADS = int(os.environ["RIVAL_THREADS"])  # of each worker
BATCH = int(os.environ["RIVAL_BATCH"])  # the most requests in one pass
WAIT = float(os.environ["RIVAL_WAIT"])  # seconds that a pass may wait for more requests


class Starters:
    """Both models and the rule that combines them; nothing is stored or cleaned."""

    def __init__(self) -> None:
        import torch

        from classifier.ml import engines
        from classifier.ml.ensemble import Rule
        from classifier.ml.image_model import ImageModel
        from classifier.ml.text_model import TextModel

        torch.set_num_threads(THREADS)
        folder = ROOT / "classifier" / "starter"
        self.text = TextModel.load(folder / "text", "cpu")
        self.image = ImageModel.load(folder / "image", "cpu")
        if ENGINE == "aisle":
            precision = engines.fast_precisions("openvino", torch.device("cpu"))[0]
            models: list[Any] = [self.text, self.image]
            for model in models:
                name, cache = f"openvino {precision} cpu", Path(os.environ["RIVAL_CACHE"])
                engines.select_engine(model.encoder, [name], threads=THREADS, cache=cache)
                if model.engine != name:
                    sys.exit(f"{name} can't be used here.")
        self.rule = Rule()
        self.threads = ThreadPoolExecutor(THREADS)

    def answer(self, uploads: Sequence[Upload]) -> list[dict[str, Any]]:
        """Return the five likeliest categories of each upload."""
        from classifier.ml.ensemble import align_columns, combine_probabilities, top_k

        photos = list(self.threads.map(decode, [photo for _title, _description, photo in uploads]))
        text = self.text.predict_texts([upload[0] for upload in uploads], [upload[1] for upload in uploads])
        image = self.image.predict_images(photos)
        labels = self.text.labels
        both = combine_probabilities(
            text.probabilities, align_columns(image.probabilities, self.image.labels, labels), self.rule
        )
        return [
            {"top5": [{"category": slug, "probability": probability} for slug, probability in top_k(row, labels)]}
            for row in both
        ]


def decode(photo: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(photo))
    if ENGINE == "aisle":
        picture.draft("RGB", (SIDE, SIDE))
    return picture.convert("RGB")
