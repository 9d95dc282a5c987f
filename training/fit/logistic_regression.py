"""Fit multinomial logistic regression by L-BFGS over sparse features on disk, in threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from training.fit.job import SplitTable
from training.fit.ngram_counts import FeatureChunk, Floats, WeightedFeatures
from training.fit.progress import FitError

MAX_ITERATIONS = 100


class LogisticRegression:
    """Multinomial logistic regression with an L2 penalty: strength * weighted losses + |weights - prior|^2 / 2.

    `prior` is (columns + 1, classes), the last row being the bias, which is penalised only if `penalises_bias`.
    Classes without a row stay out of the softmax and keep the prior: rows of others would only push them down.
    """

    def __init__(self, features: WeightedFeatures, table: SplitTable, prior: Tensor, *, penalises_bias: bool) -> None:
        self.chunks, self.table, self.prior, self.penalises_bias = list(features.chunks()), table, prior, penalises_bias
        self.present, self.targets = np.unique(table.targets, return_inverse=True)

    def solve(self, start: Tensor, strength: float, on_step: Callable[[float], None]) -> Tensor:
        """Return weights (columns + 1, classes) float32, the last row being the bias."""
        weights = start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [weights],
            max_iter=MAX_ITERATIONS,
            max_eval=MAX_ITERATIONS * 5 // 4,
            history_size=10,
            tolerance_grad=1e-4,
            tolerance_change=1e-6,
            line_search_fn="strong_wolfe",
        )
        penalty = 1 / (strength * len(self.table))
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:

            def closure() -> float:
                loss, gradient = self._mean_loss(weights.detach().numpy(), pool)
                distance = weights.detach() - self.prior
                if not self.penalises_bias:
                    distance[-1] = 0
                loss += 0.5 * penalty * float(distance.square().sum())
                weights.grad = torch.from_numpy(gradient) + penalty * distance
                if not np.isfinite(loss):
                    raise FitError("The loss of the lexical part is no longer finite.")
                on_step(loss)
                return loss

            optimizer.step(closure)
        return weights.detach()

    def _mean_loss(self, weights: Floats, pool: ThreadPoolExecutor) -> tuple[float, Floats]:
        """Return the mean weighted loss and its gradient; each thread sums over its share of the chunks."""
        threads = torch.get_num_threads()
        shares = [self.chunks[first::threads] for first in range(threads)]
        # One gradient for each thread, not for each chunk: a gradient is as large as the weights.
        results = pool.map(lambda share: self._sum_chunks(share, weights), shares)
        loss, gradient = 0.0, np.zeros_like(weights)
        for share_loss, share_gradient in results:
            loss += share_loss
            gradient += share_gradient
        return loss / len(self.table), gradient / np.float32(len(self.table))

    def _sum_chunks(self, chunks: list[FeatureChunk], weights: Floats) -> tuple[float, Floats]:
        loss, gradient = 0.0, np.zeros_like(weights)
        for chunk in chunks:
            loss += self._add_chunk(chunk, weights, gradient)
        return loss, gradient

    def _add_chunk(self, chunk: FeatureChunk, weights: Floats, gradient: Floats) -> float:
        """Add the chunk's gradient to `gradient` and return its loss."""
        logits = (chunk.rows @ weights[chunk.columns] + weights[-1])[:, self.present]
        logits -= logits.max(axis=1, keepdims=True)
        log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        targets, row_weights = self.targets[chunk.place], self.table.weights[chunk.place]
        numbers = np.arange(len(targets))
        loss = float(-(log_probabilities[numbers, targets] * row_weights).sum(dtype=np.float64))
        residuals = np.zeros((len(targets), weights.shape[1]), np.float32)
        residuals[:, self.present] = np.exp(log_probabilities)
        residuals[numbers, self.present[targets]] -= 1
        residuals *= row_weights[:, None]
        # A chunk names each of its columns once, so that plain indexing adds all of it.
        gradient[chunk.columns] += chunk.rows.T @ residuals
        gradient[-1] += residuals.sum(axis=0)
        return loss
