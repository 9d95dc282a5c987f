import numpy as np
import pytest

from classifier.ml.ensemble import combine_probabilities
from classifier.models import EnsembleRule, ModelVersion
from training.acceptance.ensemble_fitting import fit_missing_rules, fit_rules
from training.acceptance.metrics import Probabilities, Targets, log_loss
from training.datasets.corpus import Corpus

LABELS = [f"category-{column}" for column in range(6)]


def two_models(
    size: int = 1500, text: float = 2.0, image: float = 1.0, seed: int = 2
) -> tuple[Probabilities, Probabilities, Targets]:
    """Independent calibrated models: their scores are noise around a signal of their own strength."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, len(LABELS), size)

    def model(strength: float) -> Probabilities:
        scores = strength * (np.eye(len(LABELS))[targets] * strength + random.normal(0, 1, (size, len(LABELS))))
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)

    return model(text), model(image), targets


def fit(text: Probabilities, image: Probabilities, targets: Targets) -> dict[str, object]:
    return {
        each.rule.kind: each for each in fit_rules(text, image, targets, LABELS, text_accuracy=0.8, image_accuracy=0.4)
    }


def test_two_calibrated_independent_models_are_best_multiplied() -> None:
    """Their product is then the true posterior: both weights of the pool must come out near 1."""
    text, image, targets = two_models()
    found = fit_rules(text, image, targets, LABELS, text_accuracy=0.8, image_accuracy=0.4)
    assert [each.rule.kind for each in found] == ["log-pool", "accuracy-weighted"]
    pool = found[0].rule
    assert (pool.text, pool.image) == pytest.approx((1, 1), abs=0.15)
    assert not pool.gate and not pool.bias
    assert all(each.rule.calibrated for each in found)
    assert found[0].metrics["log_loss"] < found[1].metrics["log_loss"] < log_loss(image, targets)
    assert found[0].metrics["log_loss"] < log_loss(text, targets)


def test_a_model_that_knows_nothing_gets_no_weight() -> None:
    text, _image, targets = two_models()
    noise = np.random.default_rng(9).dirichlet(np.ones(len(LABELS)), len(targets)).astype(np.float32)
    (pool,) = (
        each
        for each in fit_rules(text, noise, targets, LABELS, text_accuracy=0.8, image_accuracy=0.2)
        if each.rule.kind == "log-pool"
    )
    assert pool.rule.image < 0.05
    assert pool.metrics["log_loss"] == pytest.approx(log_loss(text, targets), abs=0.02)


def test_an_overconfident_mean_is_cooled_and_a_timid_one_sharpened() -> None:
    text, image, targets = two_models()
    timid = fit_rules(text, image, targets, LABELS, text_accuracy=0.8, image_accuracy=0.4)
    mean = next(each.rule for each in timid if each.rule.kind == "accuracy-weighted")
    assert mean.temperature < 1
    bold = np.eye(len(LABELS), dtype=np.float32)[text.argmax(axis=1)] * 0.98 + 0.02 / len(LABELS)
    cooled = fit_rules(bold, bold, targets, LABELS, text_accuracy=0.8, image_accuracy=0.8)
    assert next(each.rule for each in cooled if each.rule.kind == "accuracy-weighted").temperature > 1


def test_weights_that_follow_the_products_are_kept_only_where_they_help() -> None:
    """Where the picture is noise whenever it is unsure, and right whenever it is sure, a gate says so."""
    text, image, targets = two_models(size=3000, text=1.0, image=3.0)
    random = np.random.default_rng(4)
    noisy = random.random(len(targets)) < 0.5
    wrong = random.dirichlet(np.full(len(LABELS), 3.0), int(noisy.sum())).astype(np.float32)
    image[noisy] = wrong / wrong.sum(axis=1, keepdims=True)
    pool = next(
        each.rule
        for each in fit_rules(text, image, targets, LABELS, text_accuracy=0.6, image_accuracy=0.6)
        if each.rule.kind == "log-pool"
    )
    assert pool.gate
    assert combine_probabilities(text, image, pool, LABELS).sum(axis=1) == pytest.approx(
        np.ones(len(targets)), abs=1e-5
    )


def test_a_bias_mends_a_class_that_both_models_neglect() -> None:
    text, image, targets = two_models(size=3000)
    for model in (text, image):
        model[:, 0] *= 0.05
        model /= model.sum(axis=1, keepdims=True)
    pool = next(
        each.rule
        for each in fit_rules(text, image, targets, LABELS, text_accuracy=0.6, image_accuracy=0.6)
        if each.rule.kind == "log-pool"
    )
    assert max(pool.bias, key=lambda slug: pool.bias[slug]) == "category-0"


def test_too_few_products_make_no_rule() -> None:
    text, image, targets = two_models(size=20)
    assert fit_rules(text, image, targets, LABELS, text_accuracy=0.8, image_accuracy=0.4) == []


def test_a_class_that_one_model_lacks_is_no_obstacle() -> None:
    text, image, targets = two_models()
    image[:, 2] = 0
    image /= image.sum(axis=1, keepdims=True)
    best = fit_rules(text, image, targets, LABELS, text_accuracy=0.8, image_accuracy=0.4)[0]
    assert np.isfinite(best.metrics["log_loss"])


def test_a_pair_without_a_rule_gets_one_once(db: None, small_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.acceptance.ensemble_fitting.MIN_ROWS", 6)
    EnsembleRule.objects.all().delete()
    text = ModelVersion.objects.get(modality="text")
    (rule,) = fit_missing_rules(text, small_corpus)
    assert rule.kind in rule.metrics["rules"]
    assert set(rule.metrics["validation"]) == {"log-pool", "accuracy-weighted"}
    assert set(rule.metrics["test"]) == {"text", "image", "log-pool", "accuracy-weighted"}
    assert rule.rule().calibrated
    assert fit_missing_rules(text, small_corpus) == []


def test_a_corpus_without_enough_products_with_both_leaves_the_pair_open(db: None, small_corpus: Corpus) -> None:
    EnsembleRule.objects.all().delete()
    assert fit_missing_rules(ModelVersion.objects.get(modality="text"), small_corpus) == []
    assert not EnsembleRule.objects.exists()
