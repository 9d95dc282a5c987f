"""The lexical part: n-grams counted in chunks on disk, a convex fit by L-BFGS, and a table cut to size."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse
import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.functional import cross_entropy

from classifier.ml.ngrams import BLOCKS, LexicalModel, count_ngrams, lexical_text
from training.fit import process_group
from training.fit.features import read_texts
from training.fit.job import SplitTable
from training.fit.progress import FitError, Progress
from training.fit.recipes import TextRecipe
from training.fit.stages import Stage, replace_bytes

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

TABLE = "lexical.safetensors"
CHUNK = 2_048
ITERATIONS = 100

# How many n-grams more than the recipe allows are weighed up before the least useful ones are cut.
CANDIDATES = 2


def fit_lexical_part(
    tables: dict[str, SplitTable],
    classes: int,
    recipe: TextRecipe,
    stage: Stage,
    progress: Progress,
    start: LexicalModel | None = None,
) -> dict[str, Any]:
    """Fit the lexical part on the training rows, its strength chosen by the validation rows; return what came of it.

    With `start`, weights are penalised for their distance from its weights instead of from 0, so what the new rows say
    nothing about stays as it was. One process works while the others wait; then the table lies in the stage's folder in
    every process, where `read_lexical_tensors` reads it.
    """
    if stage.done is not None:
        return stage.done
    facts: dict[str, Any] = {}
    content = b""
    if process_group.is_first_process():
        work = stage.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        lexical, facts = _fit(tables, classes, recipe, work, progress, start)
        content = save(lexical.tensors())
        shutil.rmtree(work)
    content = process_group.broadcast(content)
    if process_group.is_first_local_process():
        replace_bytes(stage.folder / TABLE, content)
    return stage.finish(facts)


def read_lexical_tensors(stage: Stage, classes: int) -> dict[str, Tensor]:
    """Return the tensors of the finished table. Raises ArtifactError when they are damaged."""
    tensors = load_file(stage.folder / TABLE)
    LexicalModel.read(tensors, classes, torch.device("cpu"))
    return tensors


def _fit(
    tables: dict[str, SplitTable],
    classes: int,
    recipe: TextRecipe,
    work: Path,
    progress: Progress,
    start: LexicalModel | None,
) -> tuple[LexicalModel, dict[str, Any]]:
    train, validation = tables["train"], tables["validation"]
    progress.stage("counting n-grams", len(train) + len(validation))
    counts = _SparseChunks.counted(train, work / "train", progress, 0)
    checked = _SparseChunks.counted(validation, work / "validation", progress, len(train))
    keys, idf = _choose(counts, recipe)
    prior = torch.zeros(len(idf) + 1, classes)
    if start is not None:
        keys, idf, prior = _joined(start, keys, idf)
    if not len(idf):
        raise FitError("No word occurs in two training texts: there is nothing to learn from.")
    features = _features(counts, keys, idf, work / "features")
    held_back = _features(checked, keys, idf, work / "held-back")
    steps = _Steps(progress, (len(recipe.lexical_strengths) + 1) * ITERATIONS)
    problem = _LogisticRegression(features, train, prior, holds_bias=start is not None)
    best, kept, strength = _loss(held_back, validation, prior), prior.clone(), recipe.lexical_strengths[0]
    weights = kept.clone()
    for place, candidate in enumerate(sorted(recipe.lexical_strengths)):
        steps.at(place * ITERATIONS)
        weights = problem.solve(weights, candidate, steps)
        loss = _loss(held_back, validation, weights)
        progress.say(f"Lexical part, strength {candidate:g}: validation log-loss {loss:.4f}")
        if loss < best:
            best, kept, strength = loss, weights.clone(), candidate
    if len(idf) > recipe.lexical_rows:
        rows = _most_useful(features, kept, recipe.lexical_rows)
        middle = len(keys[0])
        keys = keys[0][rows[rows < middle]], keys[1][rows[rows >= middle] - middle]
        idf = idf[rows]
        # Rows of length one among fewer n-grams have other values: the features are made anew.
        features = _features(counts, keys, idf, work / "features")
        held_back = _features(checked, keys, idf, work / "held-back")
        steps.at(len(recipe.lexical_strengths) * ITERATIONS)
        prior, kept = (torch.cat([weights[rows], weights[-1:]]) for weights in (prior, kept))
        kept = _LogisticRegression(features, train, prior, holds_bias=start is not None).solve(kept, strength, steps)
        best = _loss(held_back, validation, kept)
    lexical = LexicalModel(keys, idf, kept[:-1], kept[-1])
    return lexical, {"strength": strength, "rows": len(idf), "validation_loss": best}


class _Steps:
    """Progress over several fits in a row."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.base, self.done = progress, 0, 0
        progress.stage("lexical part", total)

    def at(self, base: int) -> None:
        self.base, self.done = base, 0

    def __call__(self, loss: float) -> None:
        self.done = min(self.done + 1, ITERATIONS)
        self.progress.step(self.base + self.done, loss=loss)


class _SparseChunks:
    """Sparse rows on disk, in files that are mapped one after the other."""

    def __init__(self, folder: Path, blocks: Sequence[str]) -> None:
        self.folder, self.blocks, self.size = folder, blocks, 0
        folder.mkdir(exist_ok=True)

    @classmethod
    def counted(cls, table: SplitTable, folder: Path, progress: Progress, before: int) -> "_SparseChunks":
        chunks = cls(folder, BLOCKS)
        for start in range(0, len(table), CHUNK):
            titles, descriptions = read_texts(table, start, start + CHUNK)
            chunks.add(*count_ngrams([lexical_text(*pair) for pair in zip(titles, descriptions, strict=True)]))
            progress.step(before + min(start + CHUNK, len(table)))
        return chunks

    def add(self, *blocks: sparse.csr_matrix) -> None:
        for name, block in zip(self.blocks, blocks, strict=True):
            for part in ("data", "indices", "indptr"):
                np.save(self._path(self.size, name, part), getattr(block, part))
        self.size += 1

    def block(self, chunk: int, name: str, columns: int) -> sparse.csr_matrix:
        data, indices, indptr = (
            np.load(self._path(chunk, name, part), mmap_mode="r") for part in ("data", "indices", "indptr")
        )
        return sparse.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, columns), copy=False)

    def _path(self, chunk: int, name: str, part: str) -> Path:
        return self.folder / f"{chunk:05}-{name}-{part}.npy"


class _WeightedFeatures(_SparseChunks):
    """Weighted features; iterating yields each chunk with its rows' place."""

    def __init__(self, folder: Path, columns: int) -> None:
        super().__init__(folder, ["features"])
        self.columns = columns

    def __iter__(self) -> Iterator[tuple[slice, sparse.csr_matrix]]:
        start = 0
        for chunk in range(self.size):
            rows = self.block(chunk, "features", self.columns)
            yield slice(start, start + rows.shape[0]), rows
            start += rows.shape[0]


def _features(counts: _SparseChunks, keys: tuple[Ints, Ints], idf: Floats, folder: Path) -> _WeightedFeatures:
    from classifier.ml.ngrams import HASHES

    features = _WeightedFeatures(folder, len(idf))
    nothing = torch.zeros(len(idf), 1)
    lexical = LexicalModel(keys, idf, nothing, nothing[0])
    for chunk in range(counts.size):
        words, characters = (counts.block(chunk, name, HASHES) for name in BLOCKS)
        features.add(lexical.features((words, characters)))
    return features


def _choose(counts: _SparseChunks, recipe: TextRecipe) -> tuple[tuple[Ints, Ints], Floats]:
    """Return the n-grams that occur in enough texts, the most frequent ones if there are too many, and their idf."""
    found: list[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]] = []
    texts_seen = 0
    for name, least in zip(BLOCKS, (recipe.lexical_words, recipe.lexical_characters), strict=True):
        keys, documents, totals = np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64)
        texts_seen = 0
        for chunk in range(counts.size):
            block = counts.block(chunk, name, 2**31 - 1)
            texts_seen += block.shape[0]
            here, place = np.unique(np.asarray(block.indices, np.int32), return_inverse=True)
            union, where = np.unique(np.concatenate([keys, here]), return_inverse=True)
            old, new = where[: len(keys)], where[len(keys) :]
            more_documents, more_totals = np.zeros(len(union), np.int64), np.zeros(len(union))
            more_documents[old] += documents
            more_documents[new] += np.bincount(place, minlength=len(here))
            more_totals[old] += totals
            more_totals[new] += np.bincount(place, weights=block.data, minlength=len(here))
            keys, documents, totals = union, more_documents, more_totals
        enough = documents >= least
        found.append((keys[enough], documents[enough], totals[enough]))
    most = CANDIDATES * recipe.lexical_rows
    totals = np.concatenate([block[2] for block in found])
    if len(totals) > most:
        # Ties at the limit all go: the choice must not hang on the order of hashes.
        limit = np.partition(totals, -most)[-most]
        found = [tuple(values[block[2] > limit] for values in block) for block in found]
    documents = np.concatenate([block[1] for block in found])
    idf = (np.log((1 + texts_seen) / (1 + documents)) + 1).astype(np.float32)
    # As the artifact stores it.
    return (found[0][0].astype(np.int32), found[1][0].astype(np.int32)), idf.astype(np.float16).astype(np.float32)


class _LogisticRegression:
    """Multinomial logistic regression with an L2 penalty: sum of weighted losses * strength + |weights - prior|^2 / 2.

    `prior` is (rows + 1, classes), the last row being the bias, which is penalised only if `holds_bias`. Classes
    without a row stay out of the softmax and keep the prior: rows of others would only push them down.
    """

    def __init__(self, features: _WeightedFeatures, table: SplitTable, prior: Tensor, *, holds_bias: bool) -> None:
        self.chunks, self.table, self.prior, self.holds_bias = list(features), table, prior, holds_bias
        self.present, self.targets = np.unique(table.targets, return_inverse=True)

    def solve(self, start: Tensor, strength: float, step: Callable[[float], None]) -> Tensor:
        """Return weights (rows + 1, classes) float32, the last row being the bias."""
        weights = start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [weights],
            max_iter=ITERATIONS,
            max_eval=ITERATIONS * 5 // 4,
            history_size=10,
            tolerance_grad=1e-4,
            tolerance_change=1e-6,
            line_search_fn="strong_wolfe",
        )
        penalty = 1 / (strength * len(self.table))
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:

            def closure() -> float:
                loss, gradient = self._evaluate(weights.detach().numpy(), pool)
                held = weights.detach() - self.prior
                if not self.holds_bias:
                    held[-1] = 0
                loss += 0.5 * penalty * float(held.square().sum())
                weights.grad = torch.from_numpy(gradient) + penalty * held
                if not np.isfinite(loss):
                    raise FitError("The loss of the lexical part is no number any more.")
                step(loss)
                return loss

            optimizer.step(closure)
        return weights.detach()

    def _evaluate(self, weights: Floats, pool: ThreadPoolExecutor) -> tuple[float, Floats]:
        """Return the mean weighted loss and its gradient; each thread sums over its share of the chunks."""
        threads = torch.get_num_threads()
        shares = [self.chunks[place::threads] for place in range(threads)]
        loss, gradient = 0.0, np.zeros_like(weights)
        for share_loss, share in pool.map(lambda share: self._sum(share, weights), shares):
            loss += share_loss
            gradient += share
        return loss / len(self.table), gradient / np.float32(len(self.table))

    def _sum(self, chunks: list[tuple[slice, sparse.csr_matrix]], weights: Floats) -> tuple[float, Floats]:
        loss, gradient = 0.0, np.zeros_like(weights)
        for chunk in chunks:
            part_loss, part = self._part(chunk, weights)
            loss += part_loss
            gradient += part
        return loss, gradient

    def _part(self, chunk: tuple[slice, sparse.csr_matrix], weights: Floats) -> tuple[float, Floats]:
        place, rows = chunk
        logits = (rows @ weights[:-1] + weights[-1])[:, self.present]
        logits -= logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        targets, counts = self.targets[place], self.table.weights[place]
        every = np.arange(len(targets))
        loss = float(-(logs[every, targets] * counts).sum(dtype=np.float64))
        wrong = np.exp(logs)
        wrong[every, targets] -= 1
        wrong *= counts[:, None]
        gradient = np.zeros_like(weights)
        gradient[:-1, self.present], gradient[-1, self.present] = rows.T @ wrong, wrong.sum(axis=0)
        return loss, gradient


def reorder_columns(lexical: LexicalModel, labels: Sequence[str], wanted: Sequence[str]) -> LexicalModel:
    """Return a lexical part with its columns in the order of `wanted`.

    A label that it doesn't know gets weights of 0 and the mean bias: no n-gram speaks for or against it yet.
    """
    place = {label: column for column, label in enumerate(labels)}
    weights, old = lexical.weights.cpu(), lexical.bias.cpu()
    columns, bias = torch.zeros(len(weights), len(wanted)), torch.full((len(wanted),), float(old.mean()))
    for column, label in enumerate(wanted):
        if label in place:
            columns[:, column], bias[column] = weights[:, place[label]], old[place[label]]
    return LexicalModel(lexical.keys, lexical.idf, columns, bias)


def _joined(start: LexicalModel, keys: tuple[Ints, Ints], idf: Floats) -> tuple[tuple[Ints, Ints], Floats, Tensor]:
    """Return the n-grams of `start` and the new ones, their idf, and the weights of `start` over all of them.

    An n-gram that `start` knows keeps its idf, for its weights were fitted to it.
    """
    middles = len(keys[0]), len(start.keys[0])
    halves = zip(keys, start.keys, np.split(idf, middles[:1]), np.split(start.idf, middles[1:]), strict=True)
    joined, values, places, before = [], [], [], 0
    for new, old, new_idf, old_idf in halves:
        union = np.union1d(new, old)
        own = np.searchsorted(union, old)
        here = np.empty(len(union), np.float32)
        here[np.searchsorted(union, new)] = new_idf
        here[own] = old_idf
        joined.append(union.astype(np.int32))
        values.append(here)
        places.append(own + before)
        before += len(union)
    prior = torch.zeros(before + 1, start.weights.shape[1])
    prior[torch.from_numpy(np.concatenate(places))] = start.weights
    prior[-1] = start.bias
    return (joined[0], joined[1]), np.concatenate(values), prior


def _loss(features: _WeightedFeatures, table: SplitTable, weights: Tensor) -> float:
    logits = np.concatenate([rows @ weights[:-1].numpy() for _place, rows in features]) + weights[-1].numpy()
    losses = cross_entropy(torch.from_numpy(logits), torch.from_numpy(table.targets), reduction="none")
    counts = torch.from_numpy(table.weights)
    return float((losses * counts).sum() / counts.sum())


def _most_useful(features: _WeightedFeatures, weights: Tensor, most: int) -> npt.NDArray[np.int64]:
    """Return the places, sorted, of the n-grams that move the answers most: |weights|^2 * sum of squared values.

    One that no training row holds came with the model that is gone on from, and counts as if one row held it.
    """
    squares = np.zeros(features.columns)
    for _place, rows in features:
        squares += np.bincount(rows.indices, weights=np.square(rows.data), minlength=features.columns)
    moved = np.maximum(squares, 1.0) * weights[:-1].square().sum(dim=1).numpy()
    return np.sort(np.argpartition(moved, -most)[-most:])
