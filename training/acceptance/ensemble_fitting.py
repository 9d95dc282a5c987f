"""Fit ensemble rules of text and image versions on products that neither was trained with."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from classifier.evaluation.paired_tests import Values
from classifier.ml.artifact import ArtifactError
from classifier.ml.ensemble import (
    ACCURACY_WEIGHTED,
    LOG_POOL,
    Rule,
    certainty,
    combine_probabilities,
    filled_log_probabilities,
)
from classifier.models import EnsembleRule, Modality, ModelVersion
from classifier.registry import ensemble_rules, model_cache, traffic
from training.acceptance.batch_inference import predict_rows, rows_with_both
from training.acceptance.metrics import Metrics, Probabilities, Targets, compute_metrics, row_losses

if TYPE_CHECKING:
    from training.datasets.corpus import Corpus

log = logging.getLogger(__name__)

FOLDS = 5
SEED = 18
MIN_ROWS = 50  # with fewer, the rule would be fitted to chance
RIDGE = 0.01  # penalty on gates and biases
UNKNOWN_SCORE = -50.0  # of categories that neither model knows


@dataclass(frozen=True)
class FittedRule:
    """A rule fitted on all rows, with its cross-validated figures: each row answered by a fit without its fold."""

    rule: Rule
    metrics: Metrics


@dataclass(frozen=True)
class _Pairs:
    """Both models' probabilities of the same products, columns in the order of `labels`."""

    text: Probabilities
    image: Probabilities
    targets: Targets
    labels: Sequence[str]

    def where(self, rows: Targets) -> "_Pairs":
        return replace(self, text=self.text[rows], image=self.image[rows], targets=self.targets[rows])

    def combined(self, rule: Rule) -> Probabilities:
        return combine_probabilities(self.text, self.image, rule, self.labels)


_Fit = Callable[[_Pairs], Rule]


def fit_rules(
    text: Probabilities,
    image: Probabilities,
    targets: Targets,
    labels: Sequence[str],
    *,
    text_accuracy: float,
    image_accuracy: float,
) -> list[FittedRule]:
    """Return the fitted accuracy-weighted mean and the fitted log pool, the one with the better log-loss first.

    `text` and `image` are (n, classes) over validation products that have both, columns in the order of `labels`.
    The pool's two weights come first; weights that follow the models' sureness, and a bias for each category, are kept
    only where they lower the cross-validated log-loss by more than its standard error. The log-losses compared are
    cross-validated over 5 folds, so that more parameters don't win by luck. Returns nothing for fewer than 50 rows.
    """
    if len(targets) < MIN_ROWS:
        return []
    pairs = _Pairs(text, image, targets, labels)
    plain = Rule(ACCURACY_WEIGHTED, text_accuracy, image_accuracy)
    weighted, _losses = _cross_validated(pairs, lambda part: _fit_mean(part, plain))
    pool, pool_losses = _cross_validated(pairs, _fit_pool)
    best, best_losses = pool, pool_losses
    for fit in (_fit_gated, _fit_biased):
        richer, richer_losses = _cross_validated(pairs, fit)
        gain = pool_losses - richer_losses
        # By more than its standard error: a richer rule must not win by chance.
        helps = gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain))
        if helps and richer_losses.mean() < best_losses.mean():
            best, best_losses = richer, richer_losses
    return sorted([weighted, best], key=lambda fitted: fitted.metrics["log_loss"])


def fit_missing_rules(version: ModelVersion, corpus: "Corpus") -> list[EnsembleRule]:
    """Fit and store the rules of the version with each deployed partner that it has none with yet; return them.

    They are fitted on the corpus's validation products with text and photo, and measured on its test products.
    Where a partner can't be loaded or there are too few products, the pair gets no rule of its own. Deployed, it
    uses the rule of the version that it replaces, or is uncalibrated if there is none.
    """
    partner_modality = Modality.IMAGE if version.modality == Modality.TEXT else Modality.TEXT
    made = []
    for variant in traffic.live_variants_by_modality()[partner_modality]:
        text, image = (version, variant.version) if version.modality == Modality.TEXT else (variant.version, version)
        if ensemble_rules.has_fitted_rule(text, image):
            continue
        try:
            rule = _fit_pair(text, image, corpus)
        except ArtifactError as error:
            log.warning("No rule could be fitted for %s + %s: %s", text, image, error)
            continue
        if rule:
            made.append(rule)
    return made


def _fit_pair(text: ModelVersion, image: ModelVersion, corpus: "Corpus") -> EnsembleRule | None:
    labels = sorted({*model_cache.load_model(text).labels, *model_cache.load_model(image).labels})
    validation = _pairs(text, image, corpus, "validation", labels)
    fitted = fit_rules(
        validation.text,
        validation.image,
        validation.targets,
        labels,
        text_accuracy=text.accuracy,
        image_accuracy=image.accuracy,
    )
    if not fitted:
        log.warning("No rule for %s + %s: only %d products to fit it on.", text, image, len(validation.targets))
        return None
    test = _pairs(text, image, corpus, "test", labels)
    metrics = {
        "validation": {each.rule.kind: each.metrics for each in fitted},
        "rules": {each.rule.kind: each.rule.to_json() for each in fitted},
        "test": {} if not len(test.targets) else _on_test(test, fitted),
    }
    rule, _created = EnsembleRule.objects.update_or_create(
        text_version=text,
        image_version=image,
        defaults={
            "kind": fitted[0].rule.kind,
            "parameters": fitted[0].rule.to_json(),
            "metrics": metrics,
            "carried_over_from": "",
        },
    )
    return rule


def _on_test(test: _Pairs, fitted: Sequence[FittedRule]) -> dict[str, Metrics]:
    alone = {"text": compute_metrics(test.text, test.targets), "image": compute_metrics(test.image, test.targets)}
    return alone | {each.rule.kind: compute_metrics(test.combined(each.rule), test.targets) for each in fitted}


def _pairs(text: ModelVersion, image: ModelVersion, corpus: "Corpus", split: str, labels: Sequence[str]) -> _Pairs:
    rows = rows_with_both(corpus, split, labels)
    place = {label: column for column, label in enumerate(labels)}
    return _Pairs(
        predict_rows(text, corpus, split, list(rows), labels),
        predict_rows(image, corpus, split, list(rows), labels),
        np.array([place[label] for label in rows.values()], np.int64),
        labels,
    )


def _cross_validated(pairs: _Pairs, fit: _Fit) -> tuple[FittedRule, Values]:
    """Return the rule fitted on all pairs with its cross-validated figures, and its log-loss of each row."""
    size, classes = pairs.text.shape
    fold = np.random.default_rng(SEED).permutation(size) % FOLDS
    held_out = np.empty((size, classes), np.float32)
    for number in range(FOLDS):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        held_out[outside] = pairs.where(outside).combined(fit(pairs.where(inside)))
    return FittedRule(fit(pairs), compute_metrics(held_out, pairs.targets)), row_losses(held_out, pairs.targets)


def _fit_mean(pairs: _Pairs, plain: Rule) -> Rule:
    """Return the mean with the temperature of the lowest log-loss (Guo et al. 2017, section 4.2)."""
    mean = pairs.combined(plain)

    def loss(log_temperature: float) -> float:
        scores = np.log(np.maximum(mean, 1e-30)) / np.exp(log_temperature)
        return float(np.mean(_log_sum(scores) - scores[np.arange(len(scores)), pairs.targets]))

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
    return replace(plain, temperature=temperature, calibrated=True)


def _fit_pool(pairs: _Pairs) -> Rule:
    found = _minimise(pairs, gated=False, biased=False)
    return Rule(LOG_POOL, found[0], found[1], calibrated=True)


def _fit_gated(pairs: _Pairs) -> Rule:
    found = _minimise(pairs, gated=True, biased=False)
    gate = {"text": (found[2], found[3]), "image": (found[4], found[5])}
    return Rule(LOG_POOL, found[0], found[1], gate=gate, calibrated=True)


def _fit_biased(pairs: _Pairs) -> Rule:
    found = _minimise(pairs, gated=False, biased=True)
    bias = dict(zip(pairs.labels, found[6:], strict=True))
    return Rule(LOG_POOL, found[0], found[1], bias=bias, calibrated=True)


def _minimise(pairs: _Pairs, *, gated: bool, biased: bool) -> list[float]:
    """Return the pool's two weights, four gates and biases of the lowest log-loss, 0 where not wanted."""
    size, classes = pairs.text.shape
    rows = np.arange(size)
    log_text, log_image = filled_log_probabilities(pairs.text, pairs.image)
    known = np.isfinite(log_text)
    log_text, log_image = np.where(known, log_text, 0), np.where(known, log_image, 0)
    sureness = np.stack([certainty(pairs.text), certainty(pairs.image)], axis=1)
    wanted = np.concatenate([np.ones(2), np.full(4, float(gated)), np.full(classes, float(biased))])

    def loss(found: Values) -> tuple[float, Values]:
        gates, bias = found[2:6].reshape(2, 2), found[6:]
        factors = np.exp(np.clip(sureness @ gates.T, -10, 10))
        weights = found[:2] * factors
        scores = np.where(known, weights[:, :1] * log_text + weights[:, 1:] * log_image + bias, UNKNOWN_SCORE)
        norm = _log_sum(scores)
        slope = np.where(known, np.exp(scores - norm[:, None]), 0)
        slope[rows, pairs.targets] -= 1
        slope /= size
        by_weight = np.stack([(slope * log_text).sum(axis=1), (slope * log_image).sum(axis=1)], axis=1)
        gradient = np.concatenate(
            [
                (by_weight * factors).sum(axis=0),
                ((by_weight * weights).T @ sureness).ravel() + 2 * RIDGE * found[2:6],
                slope.sum(axis=0) + 2 * RIDGE * bias,
            ]
        )
        penalty = RIDGE * float(np.sum(found[2:] ** 2))
        return float(np.mean(norm - scores[rows, pairs.targets])) + penalty, gradient * wanted

    start = np.concatenate([[0.7, 0.3], np.zeros(4 + classes)])
    bounds = [(1e-6, 20.0)] * 2 + [(-5.0, 5.0)] * (4 + classes)
    result = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    return [float(value) for value in result.x]


def _log_sum(scores: Values) -> Values:
    top = scores.max(axis=1)
    return np.asarray(top + np.log(np.exp(scores - top[:, None]).sum(axis=1)))
