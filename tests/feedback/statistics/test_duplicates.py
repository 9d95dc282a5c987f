import io

import numpy as np
from PIL import Image, ImageDraw

from common.photos.copies import photo_hash
from feedback.statistics.duplicates import MAXIMUM_DISTANCE, is_plain_surface, text_hash


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    made = Image.fromarray(rng.integers(0, 255, (4, 4, 3)).astype(np.uint8)).resize(
        (400, 300), Image.Resampling.BICUBIC
    )
    draw = ImageDraw.Draw(made)
    for _ in range(6):
        x, y, size = rng.integers(0, 300), rng.integers(0, 200), rng.integers(40, 150)
        draw.ellipse((x, y, x + size, y + size), fill=tuple(rng.integers(0, 255, 3).tolist()))
    return made


def recompressed(photo: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    photo.resize((240, 180)).save(buffer, "JPEG", quality=70)
    return Image.open(buffer)


def test_a_smaller_copy_of_a_photo_has_a_similar_hash_and_other_photos_do_not() -> None:
    photos = [picture(seed) for seed in range(12)]
    first, copies = (
        np.array([photo_hash(photo) for photo in some], np.uint64) for some in (photos, map(recompressed, photos))
    )
    near = np.bitwise_count(first[:, None] ^ copies[None, :]) <= MAXIMUM_DISTANCE
    assert (near == np.eye(12, dtype=bool)).all()


def test_plain_surfaces_are_recognised() -> None:
    surfaces = [photo_hash(Image.new("RGB", (50, 50), colour)) for colour in ("white", "red", "black")]
    assert is_plain_surface(np.array(surfaces, np.uint64)).all()
    # A picture that darkens, or lightens, from left to right has all bits unset, or set.
    assert is_plain_surface(np.array([0, 2**64 - 1, 0b111, 0b1111, 2**64 - 1 - 0b111], np.uint64)).tolist() == [
        True, True, True, False, True,
    ]  # fmt: skip


def test_the_same_words_give_one_hash_and_too_few_give_none() -> None:
    same = text_hash("Café table, 2 chairs, oak")
    assert same == text_hash("Cafe table chairs oak!") != 0
    assert text_hash("OAK chairs with cafe table 4 CHAIRS") not in (same, 0)
    assert text_hash("Oak table") == text_hash("") == 0
