"""Fit a model's calibration on the validation split: the pool of its parts, its length scales and its temperature."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from classifier.ml.ngrams import LogitPool
from classifier.ml.text_model import LengthScales

# Limits of the temperature. One beyond them means that the model is unusable, not that it is badly calibrated.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
# The upper ends, in words, of the ranges of lengths that are scaled apart, and the texts that a range needs.
LENGTHS = (3, 6, 12)
SHORT_RANGES = 2
MIN_TEXTS = 300


def fit_pool(lexical: Tensor, encoder: Tensor, targets: Tensor, weights: Tensor) -> LogitPool:
    """Return the pool with the lowest weighted log-loss; its weights are not negative and sum to one.

    The temperature decides how confident the pooled answer may be.
    """
    parts = [values.detach().double().log_softmax(dim=1) for values in (lexical, encoder)]
    rates = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        shares = torch.nn.functional.softplus(rates)
        return _loss(shares[0] * parts[0] + shares[1] * parts[1], targets, weights)

    _minimise(rates, loss)
    shares = torch.nn.functional.softplus(rates.detach())
    shares = shares / shares.sum()
    return LogitPool(round(float(shares[0]), 6), round(1 - round(float(shares[0]), 6), 6))


def fit_temperature(logits: Tensor, targets: Tensor, weights: Tensor) -> float:
    """Return the temperature of the lowest weighted log-loss (Guo et al. 2017, section 4.2)."""
    logits = logits.detach().double()
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    _minimise(log_temperature, lambda: _loss(logits / log_temperature.exp(), targets, weights))
    temperature = math.exp(log_temperature.item())
    return float(np.clip(temperature, MIN_TEMPERATURE, MAX_TEMPERATURE)) if math.isfinite(temperature) else 1.0


def fit_length_scales(logits: Tensor, words: Tensor, targets: Tensor, weights: Tensor) -> LengthScales | None:
    """Return the divisor of each range of lengths, by the log-loss of the texts in it; None for too few short texts.

    A range with fewer than `MIN_TEXTS` texts is divided as all texts are.
    """
    ranges = torch.bucketize(words, torch.tensor(LENGTHS, dtype=torch.int64))
    if int((ranges == 0).sum()) < MIN_TEXTS:
        return None
    overall = fit_temperature(logits, targets, weights)
    divisors = []
    for number in range(len(LENGTHS) + 1):
        rows = ranges == number
        is_measured = int(rows.sum()) >= MIN_TEXTS and float(weights[rows].sum()) > 0
        fitted = fit_temperature(logits[rows], targets[rows], weights[rows]) if is_measured else overall
        divisors.append(round(fitted, 4))
    return LengthScales(LENGTHS, tuple(divisors))


def cautious_scales(scales: LengthScales, caution: float) -> LengthScales:
    """Return the scales with the divisors of the shortest texts multiplied by `caution`."""
    short, others = scales.divisors[:SHORT_RANGES], scales.divisors[SHORT_RANGES:]
    return LengthScales(scales.most_words, (*(round(divisor * caution, 4) for divisor in short), *others))


def _minimise(parameter: Tensor, loss: Callable[[], Tensor]) -> None:
    optimizer = torch.optim.LBFGS([parameter], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss()
        value.backward()
        return value

    optimizer.step(closure)


def _loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return (cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()
