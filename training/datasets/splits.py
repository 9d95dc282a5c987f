"""Choose a product's split once, when it is imported, so that similar products never lie in two splits.

About 70 in 100 products go to training, 10 to validation and 20 to test, by a hash of their content. A product that is
similar to known ones goes to their split, so that no test row has a near-duplicate in training, however the data grows.
Similar are: the same photo, the same title words whatever their order, case and digits, titles whose word sets have a
Jaccard index of at least `MIN_SIMILARITY`, and untitled products of one source and group. A product that is similar to
products of two splits is left out.

Near-duplicate titles are found by MinHash: titles that agree in one band of their signatures are compared word by word.
At `MIN_SIMILARITY` itself five pairs in a million are missed, and fewer the closer they are.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

TRAIN, VALIDATION, TEST, BRIDGE = "train", "validation", "test", "bridge"
# The hash is a number below 100; a product belongs to the first split whose limit it is below.
SPLIT_LIMITS = ((70, TRAIN), (80, VALIDATION), (100, TEST))
# Word sets with this Jaccard index count as one product, which differs in a size or a colour.
MIN_SIMILARITY = 0.75
BANDS, ROWS = 32, 4

Words = frozenset[str]

# Fixed for ever: other factors would give stored titles other bands than new ones.
_random = np.random.Generator(np.random.PCG64(20_261_122))
_FACTORS = _random.integers(1, 2**63, BANDS * ROWS, dtype=np.uint64) | np.uint64(1)
_MIXERS = _random.integers(1, 2**63, (BANDS, ROWS), dtype=np.uint64) | np.uint64(1)
_HALF = np.uint64(32)


def title_words(title: str) -> Words:
    """Return a title's words without case, digits and single letters: "Sock, 3 L" is "sock 5-M"."""
    text = unicodedata.normalize("NFKC", title).casefold()
    return frozenset(word for word in re.findall(r"[^\W\d_]+", text) if len(word) > 1)


def title_key(words: Words) -> int:
    """Return a hash of the words, as a signed 64-bit number; 0 for no words."""
    return _signed(_hash(" ".join(sorted(words)))) if words else 0


def minhash_bands(words: Words) -> list[int]:
    """Return the bands of a MinHash signature, signed 64-bit numbers; near-duplicates share at least one.

    Fewer than three words have no near-duplicates but themselves, so they have no bands.
    """
    if len(words) < 3:
        return []
    hashes = np.array([_hash(word) for word in words], dtype=np.uint64)
    # One hash function a row: the high half of a product with its own odd factor.
    mixed = hashes[None, :] * _FACTORS[:, None]
    lowest = (mixed ^ (mixed >> _HALF)).min(axis=1).reshape(BANDS, ROWS)
    keys: npt.NDArray[np.uint64] = ((lowest ^ (lowest >> _HALF)) * _MIXERS).sum(axis=1, dtype=np.uint64)
    return [int(key) for key in keys.view(np.int64)]


def are_near_duplicates(first: Words, second: Words) -> bool:
    """Return whether the Jaccard index of two word sets is at least `MIN_SIMILARITY`."""
    shared = len(first & second)
    return bool(shared) and shared >= MIN_SIMILARITY * (len(first) + len(second) - shared)


def split_of_key(key: str) -> str:
    """Return the split of a product that is similar to no other."""
    hundredth = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    return next(name for limit, name in SPLIT_LIMITS if hundredth < limit)


def split_key(words: Words, *, source: str, group: str, photo_digest: str, external_id: str) -> str:
    """Return what a product's split is hashed from: the strongest property that others could share with it."""
    if words:
        return " ".join(sorted(words))
    if group:
        return f"group {source}/{group}"
    return f"photo {photo_digest}" if photo_digest else f"id {source}/{external_id}"


def choose_split(similar: Iterable[str], *, key: str, own: str = "") -> str:
    """Return the split of a product that is similar to products of the splits `similar`.

    `own` is the split of an example that has one already: it keeps it, or leaves it.
    """
    found = {split for split in similar if split != BRIDGE}
    if own:
        found.add(own)
    if BRIDGE in found or len(found) > 1:
        return BRIDGE
    return found.pop() if found else split_of_key(key)


class NearTitles:
    """Titles in memory with their splits, found by the bands of similar ones."""

    def __init__(self) -> None:
        self._known: list[tuple[Words, str]] = []
        self._buckets: dict[int, list[int]] = {}

    def add(self, words: Words, keys: Sequence[int], split: str) -> None:
        """Add a title's words with their bands and split."""
        for key in keys:
            self._buckets.setdefault(key, []).append(len(self._known))
        self._known.append((words, split))

    def find_splits(self, words: Words, keys: Sequence[int]) -> set[str]:
        """Return the splits of the near-duplicates of a title."""
        found: set[str] = set()
        candidates: set[int] = set()
        for key in keys:
            candidates.update(self._buckets.get(key, ()))
        for number in candidates:
            other, split = self._known[number]
            if split not in found and are_near_duplicates(words, other):
                found.add(split)
        return found


@lru_cache(maxsize=65_536)
def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number
