"""Which part a product belongs to: decided once, when it comes in, and never against what is known already.

About 70 in 100 products fall to training, 10 to validation and 20 to the test part, by a hash of what they are. A
product that is alike to known ones takes their part, so that no test row has a twin in training, however the data
grows. Alike are: the same photo, the same title words whatever their order, case and digits, titles whose word
sets have a Jaccard index of at least `SAME_TITLE`, and untitled products of one source and group. What is alike to
products of two parts is left out.

NearTitles titles are found by MinHash: titles that agree in one band of their signatures are compared word by word. At
`SAME_TITLE` itself five pairs in a million are missed, and fewer the closer they are.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

TRAIN, VALIDATION, TEST, BRIDGE = "train", "validation", "test", "bridge"
# Up to which hundredth of the hash a product belongs to which part.
SPLIT_LIMITS = ((70, TRAIN), (80, VALIDATION), (100, TEST))
# Word sets that share this much are the same product for the split: a size or a colour apart.
SAME_TITLE = 0.75
BANDS, ROWS = 32, 4

Words = frozenset[str]

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
    """Return the signature's bands, signed 64-bit numbers, of which near word sets share at least one.

    Fewer than three words are near to nothing but themselves, so they have none.
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
    shared = len(first & second)
    return bool(shared) and shared >= SAME_TITLE * (len(first) + len(second) - shared)


def split_of_key(key: str) -> str:
    """Return the part that a product falls to by itself."""
    hundredth = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    return next(name for limit, name in SPLIT_LIMITS if hundredth < limit)


def split_key(words: Words, *, source: str, group: str, photo_digest: str, external_id: str) -> str:
    """Return what decides a product's part: the strongest thing that others could share with it."""
    if words:
        return " ".join(sorted(words))
    if group:
        return f"group {source}/{group}"
    return f"photo {photo_digest}" if photo_digest else f"id {source}/{external_id}"


def choose_split(alike: Iterable[str], *, key: str, own: str = "") -> str:
    """Return the part of a product that is alike to products of the parts `alike`.

    `own` is the part of one that has one already: it keeps it, or is left out.
    """
    parts = {part for part in alike if part != BRIDGE}
    if own:
        parts.add(own)
    if BRIDGE in parts or len(parts) > 1:
        return BRIDGE
    return parts.pop() if parts else split_of_key(key)


class NearTitles:
    """Word sets with their parts, to be asked which are near to another. For what is held in memory at once."""

    def __init__(self) -> None:
        self._known: list[tuple[Words, str]] = []
        self._buckets: dict[int, list[int]] = {}

    def add(self, words: Words, keys: Sequence[int], part: str) -> None:
        for key in keys:
            self._buckets.setdefault(key, []).append(len(self._known))
        self._known.append((words, part))

    def parts(self, words: Words, keys: Sequence[int]) -> set[str]:
        """Return the parts of the near ones."""
        found: set[str] = set()
        for number in {number for key in keys for number in self._buckets.get(key, ())}:
            other, part = self._known[number]
            if part not in found and are_near_duplicates(words, other):
                found.add(part)
        return found


@lru_cache(maxsize=65_536)
def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number
