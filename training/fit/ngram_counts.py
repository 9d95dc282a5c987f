"""Count n-grams in chunks on disk, choose those worth learning, and turn counts into weighted features."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse
import torch

from classifier.ml.ngrams import BLOCKS, HASHES, LexicalModel, count_ngrams, lexical_text
from training.fit.features import read_texts
from training.fit.job import SplitTable
from training.fit.progress import Progress
from training.fit.recipes import TextRecipe

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

CHUNK_ROWS = 2_048

# How many times the n-grams that the recipe allows are fitted before the least useful ones are cut.
CANDIDATE_FACTOR = 2

# Of a sparse matrix in rows, in the order of scipy's constructor.
MATRIX_PARTS = ("data", "indices", "indptr")


class SparseChunks:
    """Sparse rows on disk, in memory-mapped files of `CHUNK_ROWS` rows, in one or more blocks of columns."""

    def __init__(self, folder: Path, blocks: Sequence[str]) -> None:
        self.folder, self.blocks, self.size = folder, blocks, 0
        folder.mkdir(exist_ok=True)

    def add(self, *blocks: sparse.csr_matrix) -> None:
        """Write a chunk: its rows in each block."""
        for name, block in zip(self.blocks, blocks, strict=True):
            for part in MATRIX_PARTS:
                np.save(self._path(self.size, name, part), getattr(block, part))
        self.size += 1

    def read_block(self, chunk: int, name: str, columns: int) -> sparse.csr_matrix:
        """Return a chunk's rows in a block of so many columns."""
        data, indices, indptr = (np.load(self._path(chunk, name, part), mmap_mode="r") for part in MATRIX_PARTS)
        return sparse.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, columns), copy=False)

    def _path(self, chunk: int, name: str, part: str) -> Path:
        return self.folder / f"{chunk:05}-{name}-{part}.npy"


@dataclass(frozen=True)
class FeatureChunk:
    """The rows `place` of a table: `rows` (n, len(columns)) has a column for each of the n-grams that occur in them."""

    place: slice
    columns: npt.NDArray[np.int64]
    rows: sparse.csr_matrix


class WeightedFeatures(SparseChunks):
    """TF-IDF features of the chosen n-grams; iterating yields each chunk with the slice of its rows.

    A chunk holds a small part of all n-grams, so it is stored with columns of its own: what is computed with it then
    costs as much as the chunk, not as all n-grams.
    """

    def __init__(self, folder: Path, columns: int) -> None:
        super().__init__(folder, ["features"])
        self.columns = columns

    def add(self, *blocks: sparse.csr_matrix) -> None:
        (rows,) = blocks
        columns, own = np.unique(rows.indices, return_inverse=True)
        np.save(self._path(self.size, "features", "columns"), columns.astype(np.int64))
        super().add(sparse.csr_matrix((rows.data, own.astype(np.int32), rows.indptr), (rows.shape[0], len(columns))))

    def chunks(self) -> Iterator[FeatureChunk]:
        """Yield each chunk with columns of its own."""
        start = 0
        for chunk in range(self.size):
            columns = np.load(self._path(chunk, "features", "columns"), mmap_mode="r")
            rows = self.read_block(chunk, "features", len(columns))
            yield FeatureChunk(slice(start, start + rows.shape[0]), columns, rows)
            start += rows.shape[0]

    def __iter__(self) -> Iterator[tuple[slice, sparse.csr_matrix]]:
        for chunk in self.chunks():
            parts = chunk.rows.data, chunk.columns[chunk.rows.indices], chunk.rows.indptr
            yield chunk.place, sparse.csr_matrix(parts, shape=(chunk.rows.shape[0], self.columns))


def count_table_ngrams(table: SplitTable, folder: Path, progress: Progress, rows_before: int) -> SparseChunks:
    """Count the n-grams of each row; `rows_before` rows of other tables were counted already."""
    chunks = SparseChunks(folder, BLOCKS)
    for start in range(0, len(table), CHUNK_ROWS):
        titles, descriptions = read_texts(table, start, start + CHUNK_ROWS)
        chunks.add(*count_ngrams([lexical_text(*pair) for pair in zip(titles, descriptions, strict=True)]))
        progress.report_step(rows_before + min(start + CHUNK_ROWS, len(table)))
    return chunks


def weighted_features(counts: SparseChunks, keys: tuple[Ints, Ints], idf: Floats, folder: Path) -> WeightedFeatures:
    """Return the features of the n-grams `keys`, as the finished lexical part will compute them."""
    features = WeightedFeatures(folder, len(idf))
    no_weights = torch.zeros(len(idf), 1)
    lexical = LexicalModel(keys, idf, no_weights, no_weights[0])
    for chunk in range(counts.size):
        words, characters = (counts.read_block(chunk, name, HASHES) for name in BLOCKS)
        features.add(lexical.features((words, characters)))
    return features


@dataclass(frozen=True)
class _BlockTotals:
    """For each n-gram of a block, sorted by key: in how many texts it occurs, and how often in all."""

    keys: npt.NDArray[np.int32]
    documents: npt.NDArray[np.int64]
    totals: npt.NDArray[np.float64]

    def select(self, chosen: npt.NDArray[np.bool_]) -> "_BlockTotals":
        return _BlockTotals(self.keys[chosen], self.documents[chosen], self.totals[chosen])

    def add_chunk(self, block: sparse.csr_matrix) -> "_BlockTotals":
        """Return the totals with the rows of another chunk counted too."""
        chunk_keys, positions = np.unique(np.asarray(block.indices, np.int32), return_inverse=True)
        keys, places = np.unique(np.concatenate([self.keys, chunk_keys]), return_inverse=True)
        old, new = places[: len(self.keys)], places[len(self.keys) :]
        documents, totals = np.zeros(len(keys), np.int64), np.zeros(len(keys))
        documents[old] += self.documents
        documents[new] += np.bincount(positions, minlength=len(chunk_keys))
        totals[old] += self.totals
        totals[new] += np.bincount(positions, weights=block.data, minlength=len(chunk_keys))
        return _BlockTotals(keys, documents, totals)


def choose_ngrams(counts: SparseChunks, recipe: TextRecipe) -> tuple[tuple[Ints, Ints], Floats]:
    """Return the n-grams that occur in enough texts, the most frequent ones if there are too many, and their idf."""
    words, rows = _total(counts, "words")
    characters, _rows = _total(counts, "characters")
    words = words.select(words.documents >= recipe.lexical_words)
    characters = characters.select(characters.documents >= recipe.lexical_characters)
    most = CANDIDATE_FACTOR * recipe.lexical_rows
    totals = np.concatenate([words.totals, characters.totals])
    if len(totals) > most:
        # Ties at the limit are all left out: the choice must not depend on the order of hashes.
        limit = np.partition(totals, -most)[-most]
        words, characters = words.select(words.totals > limit), characters.select(characters.totals > limit)
    documents = np.concatenate([words.documents, characters.documents])
    idf = (np.log((1 + rows) / (1 + documents)) + 1).astype(np.float32)
    # In the precision of the artifact, so that the weights are fitted to what serving computes.
    stored_idf: Any = idf.astype(np.float16).astype(np.float32)
    return (words.keys, characters.keys), stored_idf


def _total(counts: SparseChunks, name: str) -> tuple[_BlockTotals, int]:
    """Return the totals of a block and the number of rows."""
    totals = _BlockTotals(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64))
    rows = 0
    for chunk in range(counts.size):
        block = counts.read_block(chunk, name, HASHES)
        rows += block.shape[0]
        totals = totals.add_chunk(block)
    return totals, rows
