"""Photographs and texts that appear more than once: further evidence where they are different sellers'.

Nothing here flags a seller: shops share makers' pictures and words. What more than `COMMON_SELLERS` use is left out.
"""

import hashlib
import re
import unicodedata

import numpy as np
import numpy.typing as npt

HASH_BITS = 64
MAXIMUM_DISTANCE = 3  # that alike photographs' hashes differ in: a smaller copy, saved anew, mostly stays within it
PLAIN_BITS = 4  # set or unset bits: a picture with fewer is a plain surface, and those are all alike
MINIMUM_WORDS = 4  # a shorter text says too little to be anybody's own
COMMON_SELLERS = 10  # sellers: what more of them use is a maker's

Hashes = npt.NDArray[np.uint64]


def text_hash(text: str) -> int:
    """Return a 64-bit hash of a text's words, whatever their order, case, accents, digits and repetition; 0 for few."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(c))
    words = sorted(set(re.findall(r"[^\W\d_]{2,}", plain)))
    if len(words) < MINIMUM_WORDS:
        return 0
    return int.from_bytes(hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest(), "big")


def is_plain_surface(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Return which photographs' hashes (n,) are plain surfaces': all those are alike."""
    ones = np.bitwise_count(hashes)
    return np.asarray((ones < PLAIN_BITS) | (ones > HASH_BITS - PLAIN_BITS))
