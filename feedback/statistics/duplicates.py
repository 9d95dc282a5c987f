"""Hash product texts and judge photo hashes, to find content that appears more than once.

Shared content flags no seller by itself: shops share makers' photos and texts.
"""

import hashlib
import re
import unicodedata

import numpy as np
import numpy.typing as npt

HASH_BITS = 64
MAXIMUM_DISTANCE = 3  # differing bits of similar photos: a smaller or recompressed copy mostly stays within it
PLAIN_BITS = 4  # set or unset bits: a photo with fewer shows a plain surface, and all plain surfaces are alike
MINIMUM_WORDS = 4  # a shorter text is too common to identify a seller's own words
COMMON_SELLERS = 10  # content that so many sellers use is a maker's

Hashes = npt.NDArray[np.uint64]


def text_hash(text: str) -> int:
    """Return a 64-bit hash of the set of words in a text, ignoring case, accents and digits; 0 for too few words."""
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    words = sorted(set(re.findall(r"[^\W\d_]{2,}", plain)))
    if len(words) < MINIMUM_WORDS:
        return 0
    return int.from_bytes(hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest(), "big")


def is_plain_surface(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Return which photo hashes (n,) show a plain surface."""
    bits_set = np.bitwise_count(hashes)
    return np.asarray((bits_set < PLAIN_BITS) | (bits_set > HASH_BITS - PLAIN_BITS))
