"""Fit the lexical part of a text model: logistic regression over hashed n-grams, cut to the recipe's size."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.functional import cross_entropy

from classifier.ml.ngrams import LexicalModel
from training.fit import process_group
from training.fit.job import SplitTable
from training.fit.logistic_regression import MAX_ITERATIONS, LogisticRegression
from training.fit.ngram_counts import (
    Floats,
    Ints,
    WeightedFeatures,
    choose_ngrams,
    count_table_ngrams,
    weighted_features,
)
from training.fit.progress import FitError, Progress
from training.fit.recipes import TextRecipe
from training.fit.stage_codes import RunStage
from training.fit.stages import Stage, replace_bytes

TABLE = "lexical.safetensors"


def fit_lexical_part(
    tables: dict[str, SplitTable],
    classes: int,
    recipe: TextRecipe,
    stage: Stage,
    progress: Progress,
    start: LexicalModel | None = None,
) -> dict[str, Any]:
    """Fit the lexical part on the training rows, its strength chosen by the validation rows; return the results.

    With `start`, weights are penalised for their distance from its weights instead of from 0, so that the weights of
    n-grams that the new rows lack stay as they were. One process works while the others wait; then the table lies in
    the stage's folder in every process, where `read_lexical_tensors` reads it.
    """
    if stage.done is not None:
        return stage.done
    results: dict[str, Any] = {}
    content = b""
    if process_group.is_first_process():
        work = stage.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        lexical, results = _fit(tables, classes, recipe, work, progress, start)
        content = save(lexical.tensors())
        shutil.rmtree(work)
    content = process_group.broadcast(content)
    if process_group.is_first_local_process():
        replace_bytes(stage.folder / TABLE, content)
    return stage.finish(results)


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
    progress.start_stage(RunStage.COUNT_NGRAMS, len(train) + len(validation))
    train_counts = count_table_ngrams(train, work / "train", progress, 0)
    validation_counts = count_table_ngrams(validation, work / "validation", progress, len(train))
    keys, idf = choose_ngrams(train_counts, recipe)
    prior = torch.zeros(len(idf) + 1, classes)
    if start is not None:
        keys, idf, prior = _merge_with_start(start, keys, idf)
    if not len(idf):
        raise FitError("No word occurs in two training texts: there is nothing to learn from.")
    features = weighted_features(train_counts, keys, idf, work / "features")
    held_back = weighted_features(validation_counts, keys, idf, work / "held-back")
    steps = _StepCounter(progress, (len(recipe.lexical_strengths) + 1) * MAX_ITERATIONS)
    regression = LogisticRegression(features, train, prior, penalises_bias=start is not None)
    best, best_weights, strength = _log_loss(held_back, validation, prior), prior.clone(), recipe.lexical_strengths[0]
    weights = best_weights.clone()
    for number, candidate in enumerate(sorted(recipe.lexical_strengths)):
        steps.start_fit(number)
        # Each strength starts from the weaker one's weights, which are near its own.
        weights = regression.solve(weights, candidate, steps.count_step)
        loss = _log_loss(held_back, validation, weights)
        progress.log(f"Lexical part, strength {candidate:g}: validation log-loss {loss:.4f}")
        if loss < best:
            best, best_weights, strength = loss, weights.clone(), candidate
    if len(idf) > recipe.lexical_rows:
        rows = _most_useful_rows(features, best_weights, recipe.lexical_rows)
        middle = len(keys[0])
        keys = keys[0][rows[rows < middle]], keys[1][rows[rows >= middle] - middle]
        idf = idf[rows]
        # Feature vectors have length one, so those of fewer n-grams have other values: they are computed again.
        features = weighted_features(train_counts, keys, idf, work / "features")
        held_back = weighted_features(validation_counts, keys, idf, work / "held-back")
        steps.start_fit(len(recipe.lexical_strengths))
        prior, best_weights = (torch.cat([table[rows], table[-1:]]) for table in (prior, best_weights))
        regression = LogisticRegression(features, train, prior, penalises_bias=start is not None)
        best_weights = regression.solve(best_weights, strength, steps.count_step)
        best = _log_loss(held_back, validation, best_weights)
    lexical = LexicalModel(keys, idf, best_weights[:-1], best_weights[-1])
    return lexical, {"strength": strength, "rows": len(idf), "validation_loss": best}


class _StepCounter:
    """Reports the iterations of several fits in a row as one stage; each fit may end before its last iteration."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.first, self.done = progress, 0, 0
        progress.start_stage(RunStage.LEXICAL_PART, total)

    def start_fit(self, number: int) -> None:
        self.first, self.done = number * MAX_ITERATIONS, 0

    def count_step(self, loss: float) -> None:
        self.done = min(self.done + 1, MAX_ITERATIONS)
        self.progress.report_step(self.first + self.done, loss=loss)


def reorder_columns(lexical: LexicalModel, labels: Sequence[str], wanted: Sequence[str]) -> LexicalModel:
    """Return a lexical part with its columns in the order of `wanted`.

    A label that it doesn't know gets weights of 0 and the mean bias: no n-gram speaks for or against it yet.
    """
    column_of = {label: column for column, label in enumerate(labels)}
    old_weights, old_bias = lexical.weights.cpu(), lexical.bias.cpu()
    weights = torch.zeros(len(old_weights), len(wanted))
    bias = torch.full((len(wanted),), float(old_bias.mean()))
    for column, label in enumerate(wanted):
        if label in column_of:
            weights[:, column], bias[column] = old_weights[:, column_of[label]], old_bias[column_of[label]]
    return LexicalModel(lexical.keys, lexical.idf, weights, bias)


def _merge_with_start(
    start: LexicalModel, keys: tuple[Ints, Ints], idf: Floats
) -> tuple[tuple[Ints, Ints], Floats, Tensor]:
    """Return the n-grams of `start` and the new ones, their idf, and the weights of `start` over all of them.

    An n-gram that `start` knows keeps its idf, for its weights were fitted to it.
    """
    idf_of_blocks = np.split(idf, [len(keys[0])])
    start_idf_of_blocks = np.split(start.idf, [len(start.keys[0])])
    merged_keys, merged_idf, start_rows, rows_before = [], [], [], 0
    for new_keys, old_keys, new_idf, old_idf in zip(keys, start.keys, idf_of_blocks, start_idf_of_blocks, strict=True):
        union = np.union1d(new_keys, old_keys)
        old_places = np.searchsorted(union, old_keys)
        block_idf = np.empty(len(union), np.float32)
        block_idf[np.searchsorted(union, new_keys)] = new_idf
        block_idf[old_places] = old_idf
        merged_keys.append(union.astype(np.int32))
        merged_idf.append(block_idf)
        start_rows.append(old_places + rows_before)
        rows_before += len(union)
    prior = torch.zeros(rows_before + 1, start.weights.shape[1])
    prior[torch.from_numpy(np.concatenate(start_rows))] = start.weights
    prior[-1] = start.bias
    return (merged_keys[0], merged_keys[1]), np.concatenate(merged_idf), prior


def _log_loss(features: WeightedFeatures, table: SplitTable, weights: Tensor) -> float:
    logits = np.concatenate([rows @ weights[:-1].numpy() for _place, rows in features]) + weights[-1].numpy()
    losses = cross_entropy(torch.from_numpy(logits), torch.from_numpy(table.targets), reduction="none")
    row_weights = torch.from_numpy(table.weights)
    return float((losses * row_weights).sum() / row_weights.sum())


def _most_useful_rows(features: WeightedFeatures, weights: Tensor, most: int) -> npt.NDArray[np.int64]:
    """Return the rows, sorted, of the n-grams that change the answers most: |weights|^2 * sum of squared values.

    One that no training row holds came with the model that is continued, and counts as if one row held it.
    """
    squares = np.zeros(features.columns)
    for _place, rows in features:
        squares += np.bincount(rows.indices, weights=np.square(rows.data), minlength=features.columns)
    effects = np.maximum(squares, 1.0) * weights[:-1].square().sum(dim=1).numpy()
    return np.sort(np.argpartition(effects, -most)[-most:])
