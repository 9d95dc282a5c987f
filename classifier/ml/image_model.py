"""Classify products by their photo: a convolutional encoder and a head."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from classifier.ml.artifact import ArtifactError, read_config
from classifier.ml.classifier import BatchOutput, ProductInput
from classifier.ml.encoders import (
    Preprocess,
    calibrate_logits,
    load_fine_tuned,
    load_head,
    load_image_backbone,
    pick_device,
    read_tensors,
)
from classifier.ml.engines import Batch, Engine, TorchEngine, input_threads

__all__ = ["ImageEncoder", "ImageModel", "ImageNetwork", "to_rgb"]

IMAGES_PER_PASS = 32
SAMPLES = (1, 3, 8)  # photos in each sample batch
VIEWS = ("middle", "whole")


class ImageNetwork(nn.Module):
    """A network that ends in average pooling, over pixels as bytes."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, 3, 1, 1) * 255)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return unit embeddings (n, dim) float32 of pixels (n, height, width, 3) uint8."""
        # Permuted they are channels_last already, the layout in which the network is fastest.
        scaled = (pixels.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std
        return normalize(self.encoder(scaled).float(), dim=1)


class ImageEncoder:
    """A frozen network that ends in average pooling, and the engine that computes it."""

    inputs = ("pixels",)

    def __init__(self, backbone: str, device: torch.device, view: str = "middle") -> None:
        """Raises ArtifactError when the backbone cannot be loaded or there is no such view."""
        if view not in VIEWS:
            raise ArtifactError(f"config.json: view must be one of {', '.join(VIEWS)}, not {view!r}")
        encoder, preprocess = load_image_backbone(backbone)
        self.preprocess = replace(preprocess, view=view)
        self.network = ImageNetwork(encoder, self.preprocess)
        self.engine: Engine = TorchEngine(self.network, device, rows=IMAGES_PER_PASS)
        self.device = device

    @property
    def encoder(self) -> nn.Module:
        return self.network.encoder

    def use(self, engine: Engine) -> None:
        self.engine = engine
        del self.network

    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """Return unit embeddings (n, dim) float32. Raises ValueError for an empty batch."""
        if not images:
            raise ValueError("the batch is empty")
        # In threads: the engine computes the first photos while the next ones are cropped.
        cut = input_threads().map(lambda image: crop_image(image, self.preprocess), images)
        # A small batch is split as well, so that no stream stays idle.
        most = min(self.engine.rows, math.ceil(len(images) / self.engine.streams))
        return torch.cat(self.engine.run(_batches(cut, most)))

    def samples(self) -> list[Batch]:
        """Return random blurred colours: real photos have smooth areas, on which engines round differently."""
        rng = np.random.default_rng(7)
        side = self.preprocess.size
        coarse = rng.integers(0, 256, (sum(SAMPLES), 6, 6, 3)).astype(np.uint8)
        pictures = [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in coarse]
        rows = iter(pictures)
        return [next(_batches(rows, count)) for count in SAMPLES]


class ImageModel:
    """A frozen or fine-tuned encoder with a head, over one photo."""

    def __init__(self, encoder: ImageEncoder, head: nn.Module, labels: list[str], temperature: float) -> None:
        self.encoder = encoder
        self.head = head
        self.labels = labels
        self.temperature = temperature

    @property
    def engine(self) -> str:
        """The name of what computes the encoder: library, precision and device."""
        return self.encoder.engine.name

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> "ImageModel":
        """Return the model in `folder`, on the GPU if there is one. Raises ArtifactError if unusable."""
        config = read_config(folder)
        if config["modality"] != "image":
            raise ArtifactError(f"config.json: a model for {config['modality']}, not for images, in {folder}")
        target = pick_device(device)
        tensors = read_tensors(folder)
        encoder = ImageEncoder(config["backbone"], target, config.get("view", "middle"))
        load_fine_tuned(encoder.encoder, tensors)
        head = load_head(tensors, config).to(target)
        return cls(encoder, head, list(config["labels"]), float(config["temperature"]))

    def predict(self, products: Sequence[ProductInput]) -> BatchOutput:
        """Return the output for the products' photos. Raises ValueError for an empty batch or a missing photo."""
        photos = [product.photo for product in products if product.photo is not None]
        if len(photos) < len(products):
            raise ValueError(f"{len(products) - len(photos)} of {len(products)} products have no photo")
        return self.predict_images(photos)

    @torch.inference_mode()
    def predict_images(self, images: Sequence[Image.Image]) -> BatchOutput:
        """Return probabilities (n, classes) float32, rows summing to 1, and unit embeddings (n, dim) float32.

        Images may have any size and mode. Raises ValueError for an empty batch.
        """
        logits, embeddings = self.parts(images)
        return calibrate_logits(logits, embeddings, self.temperature)

    @torch.inference_mode()
    def parts(self, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        """Return logits (n, classes), before the temperature, and unit embeddings (n, dim)."""
        embeddings = self.encoder.encode(images)
        return self.head(embeddings), embeddings


def _batches(pictures: Iterator[npt.NDArray[np.uint8]], rows: int) -> Iterator[Batch]:
    while some := list(islice(pictures, rows)):
        yield (torch.from_numpy(np.stack(some)),)


def crop_image(image: Image.Image, preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    """Return what the model sees of the image, (size, size, 3): its middle square, or the whole of it."""
    if preprocess.view == "whole":
        return _resized(to_rgb(image), preprocess.size)
    width, height = image.size
    side = min(width, height) * preprocess.crop
    left, top = (width - side) / 2, (height - side) / 2
    # Cropped before the change of mode: that avoids a full-size copy of a large photo.
    outer = (int(left), int(top), min(width, int(left + side) + 1), min(height, int(top + side) + 1))
    inner = (left - outer[0], top - outer[1], left - outer[0] + side, top - outer[1] + side)
    part = to_rgb(image.crop(outer))
    box = (max(inner[0], 0), max(inner[1], 0), min(inner[2], part.width), min(inner[3], part.height))
    return _resized(part, preprocess.size, box)


def _resized(
    image: Image.Image, size: int, box: tuple[float, float, float, float] | None = None
) -> npt.NDArray[np.uint8]:
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0), np.uint8)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB: transparent parts on white, 16-bit values scaled to 8 bits."""
    if image.mode == "RGB":
        return image
    # Pillow's convert() clips these modes instead of scaling them.
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Return greys 0..255; Pillow's own conversion clips everything above 255 to white."""
    values = np.nan_to_num(np.asarray(image, np.float64), posinf=0.0, neginf=0.0)
    top = 65_535.0 if values.max() > 255 else 255.0
    return Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
