"""Measure how a photo looks, as numbers that drift detection compares."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

SHARPNESS_SIDE = 256  # pixels of the short side at which sharpness is measured


@dataclass(frozen=True)
class PhotoFeatures:
    """Width and height in pixels, mean brightness in [0, 1], and sharpness as `laplacian_sharpness` returns it."""

    width: int
    height: int
    brightness: float
    sharpness: float


def measure_photo(image: Image.Image, size: tuple[int, int] | None = None) -> PhotoFeatures:
    """Return the features of a photo; `size` is the original's width and height if `image` is a smaller copy."""
    width, height = size or image.size
    grey = _to_grey(image)
    return PhotoFeatures(width, height, float(grey.mean() / 255), laplacian_sharpness(grey))


def laplacian_sharpness(grey: npt.NDArray[np.uint8]) -> float:
    """Return ln(1 + variance of the Laplacian) of grey values (height, width) in 0..255.

    This is the focus measure of Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy", with a
    logarithm because it spans four orders of magnitude. A photo smaller than 3 x 3 pixels has 0.
    """
    if min(grey.shape) < 3:
        return 0.0
    values = grey.astype(np.float32)
    centre = values[1:-1, 1:-1]
    laplacian = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:] - 4 * centre
    return float(np.log1p(laplacian.var()))


def _to_grey(image: Image.Image) -> npt.NDArray[np.uint8]:
    scale = SHARPNESS_SIDE / min(image.size)
    if scale < 1:
        image = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)))
    return np.asarray(image.convert("L"), np.uint8)
