"""Photographs and texts that appear more than once: further evidence where they are different sellers'.

Nothing here flags anybody: shops share makers' pictures and words. What many sellers use is left out (`COMMON`).
"""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BITS = 64
MOST_BITS = 3  # that alike photographs' hashes differ in: a smaller copy, saved anew, mostly stays within it
BANDS = MOST_BITS + 1  # of two hashes that differ in so many bits, at least one band is equal
FLAT = 4  # set or unset bits: a picture with fewer is a plain surface, and those are all alike
LEAST_COSINE = 0.98
LEAST_WORDS = 4  # a shorter text says too little to be anybody's own
COMMON = 10  # sellers: what more of them use is a maker's

Hashes = npt.NDArray[np.uint64]
Groups = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shared:
    """One photograph or text that several sellers use: their numbers, and the rows it appears in."""

    sellers: tuple[int, ...]
    rows: tuple[int, ...]


def text_hash(text: str) -> int:
    """Return a 64-bit hash of a text's words, whatever their order, case, accents, digits and repetition; 0 for few."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(c))
    words = sorted(set(re.findall(r"[^\W\d_]{2,}", plain)))
    if len(words) < LEAST_WORDS:
        return 0
    return int.from_bytes(hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest(), "big")


def plain(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Return which photographs' hashes (n,) are plain surfaces': all those are alike."""
    ones = np.bitwise_count(hashes)
    return np.asarray((ones < FLAT) | (ones > BITS - FLAT))


def alike_photos(hashes: Hashes) -> Groups:
    """Return a group's number for each hash (n,), -1 for a plain surface; a chain of alike ones is one group."""
    distinct, place = np.unique(hashes, return_inverse=True)
    pairs = [
        pair[np.bitwise_count(distinct[pair[:, 0]] ^ distinct[pair[:, 1]]) <= MOST_BITS]
        for pair in _candidates(distinct)
    ]
    groups = _connected(pairs, len(distinct))
    groups[plain(distinct)] = -1
    return groups[place]


def alike_texts(hashes: Hashes) -> Groups:
    """Return a group's number for each text hash (n,), -1 for a text of few words."""
    distinct, place = np.unique(hashes, return_inverse=True)
    return np.where(distinct[place] == 0, -1, place).astype(np.int64)


def alike_embeddings(embeddings: npt.NDArray[np.float32]) -> Groups:
    """Return a group's number for each row of unit embeddings (n, dim): those within `LEAST_COSINE` of each other.

    Candidates agree in a band of the signs of random projections (Charikar 2002): of pairs at 0.98 four in
    five do, at 0.99 nine in ten.
    """
    if not len(embeddings):
        return np.empty(0, np.int64)
    planes = np.random.default_rng(BITS).normal(size=(embeddings.shape[1], BITS)).astype(np.float32)
    signs = np.packbits(embeddings @ planes > 0, axis=1).view(np.uint64).ravel()
    pairs = []
    for pair in _candidates(signs):
        cosine = np.einsum("ij,ij->i", embeddings[pair[:, 0]], embeddings[pair[:, 1]])
        pairs.append(pair[cosine >= LEAST_COSINE])
    return _connected(pairs, len(embeddings))


def shared(groups: Groups, sellers: Sequence[int]) -> list[Shared]:
    """Return what two to `COMMON` sellers use, the most used first."""
    rows: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups.tolist()):
        if group >= 0:
            rows[group].append(row)
    found = [Shared(tuple(sorted({sellers[row] for row in group})), tuple(group)) for group in rows.values()]
    return sorted((one for one in found if 2 <= len(one.sellers) <= COMMON), key=lambda one: -len(one.rows))


def _candidates(hashes: Hashes) -> Iterator[npt.NDArray[np.int64]]:
    """Yield pairs of rows (pairs, 2) whose hashes agree in a band; a pair may come more than once."""
    width = BITS // BANDS
    for band in range(BANDS):
        key = (hashes >> np.uint64(band * width)) & np.uint64(2**width - 1)
        order = np.argsort(key, kind="stable")
        first = np.arange(len(order) - 1)
        # Neighbours one apart, two apart, ... for as long as any are still in the same bucket: memory stays flat.
        apart = 1
        while len(first := first[first + apart < len(order)]):
            first = first[key[order[first]] == key[order[first + apart]]]
            yield np.stack([order[first], order[first + apart]], axis=1)
            apart += 1


def _connected(pairs: Sequence[npt.NDArray[np.int64]], size: int) -> Groups:
    edges = np.concatenate([*pairs, np.empty((0, 2), np.int64)])
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64) if size else np.empty(0, np.int64)
