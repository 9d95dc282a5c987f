import io

import numpy as np
from PIL import Image, ImageDraw

from classifier.pictures import photo_hash
from feedback.duplicates import (
    COMMON,
    MOST_BITS,
    alike_embeddings,
    alike_photos,
    alike_texts,
    plain,
    shared,
    text_hash,
)


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


def saved_anew(photo: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    photo.resize((240, 180)).save(buffer, "JPEG", quality=70)
    return Image.open(buffer)


def test_a_smaller_copy_of_a_photo_is_alike_and_others_are_not() -> None:
    photos = [picture(seed) for seed in range(12)]
    hashes = np.array([photo_hash(photo) for photo in [*photos, *map(saved_anew, photos)]], np.uint64)
    groups = alike_photos(hashes)
    assert (groups[:12] == groups[12:]).all()
    assert len(set(groups.tolist())) == 12


def test_plain_surfaces_are_alike_to_nothing() -> None:
    surfaces = [photo_hash(Image.new("RGB", (50, 50), colour)) for colour in ("white", "red", "black")]
    assert alike_photos(np.array(surfaces, np.uint64)).tolist() == [-1, -1, -1]
    # A picture that darkens, or lightens, from left to right has all bits unset, or set.
    assert plain(np.array([0, 2**64 - 1, 0b111, 0b1111, 2**64 - 1 - 0b111], np.uint64)).tolist() == [
        True, True, True, False, True,
    ]  # fmt: skip


def test_groups_are_those_of_comparing_every_pair() -> None:
    rng = np.random.default_rng(0)
    seeds = rng.integers(0, 2**63, 60, dtype=np.uint64)
    flips = np.uint64(1) << rng.integers(0, 64, (300, 4)).astype(np.uint64)
    hashes = seeds[rng.integers(0, 60, 300)] ^ np.bitwise_xor.reduce(flips, axis=1)
    near = np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= MOST_BITS
    groups = alike_photos(hashes)
    assert ((groups[:, None] == groups[None, :]) | ~near).all()
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        assert len(members) == 1 or near[np.ix_(members, members)].sum(axis=1).min() >= 2
    assert 60 < len(np.unique(groups)) < 300


def test_the_same_words_are_one_text_and_few_words_are_none() -> None:
    said = [
        "Café table, 2 chairs, oak",
        "OAK chairs with cafe table 4 CHAIRS",
        "Cafe table chairs oak!",
        "Oak table",
        "",
    ]
    hashes = np.array([text_hash(text) for text in said], np.uint64)
    groups = alike_texts(hashes)
    assert groups[0] == groups[2] >= 0 and groups[1] not in (groups[0], -1)
    assert groups[3] == groups[4] == -1


def test_near_embeddings_are_one_group() -> None:
    rng = np.random.default_rng(1)
    unit = rng.normal(size=(50, 384)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    near = unit + rng.normal(size=unit.shape).astype(np.float32) * 0.002
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    groups = alike_embeddings(np.concatenate([unit, near]))
    assert (groups[:50] == groups[50:]).all() and len(set(groups.tolist())) == 50
    assert alike_embeddings(np.empty((0, 384), np.float32)).size == 0


def test_only_what_a_few_sellers_share_is_told() -> None:
    groups = np.array([0, 0, 1, 1, -1, -1] + [2] * (COMMON + 1))
    sellers = [7, 8, 7, 7, 7, 8, *range(COMMON + 1)]
    (found,) = shared(groups, sellers)
    assert (found.sellers, found.rows) == ((7, 8), (0, 1))
    assert alike_photos(np.empty(0, np.uint64)).size == 0 and shared(np.empty(0, np.int64), []) == []
