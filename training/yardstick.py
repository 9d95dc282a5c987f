"""TF-IDF and logistic regression: what any text model has to be held against."""

import re
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from training.datasets import Product
from training.evaluate import Probabilities, log_loss
from training.heads import Array, Recipe, contested, fit_temperature, weigh

# The inverse strengths of L2 to choose from by validation log-loss.
STRENGTHS = (3.0, 10.0, 30.0)

# Beyond this a description adds character n-grams by the hundred and hardly a new word.
CHARACTERS = 1_000


def predict(
    train: Sequence[Product],
    validation: Sequence[Product],
    test: Sequence[Product],
    labels: Sequence[str],
    recipe: Recipe,
) -> Probabilities:
    """Return the yardstick's probabilities (n, classes) float32 for `test`.

    It is given what the encoders' heads are given: the same products and weights, and its strength and its
    temperature chosen by the validation part.
    """
    place = {label: column for column, label in enumerate(labels)}
    targets = np.array([place[product.label] for product in train])
    checked = np.array([place[product.label] for product in validation])
    features = _features()
    rows = features.fit_transform([_text(product) for product in train])
    known = features.transform([_text(product) for product in validation])
    asked = features.transform([_text(product) for product in test])
    weights = torch.from_numpy(weigh(validation, recipe))
    doubtful = torch.from_numpy(contested(validation))
    best, answer = np.inf, np.empty((0, len(labels)), np.float32)
    for strength in STRENGTHS:
        # lbfgs minimises the multinomial loss itself; liblinear would only fit one category against the rest.
        model = LogisticRegression(C=strength, solver="lbfgs", max_iter=100, tol=1e-3)
        model.fit(rows, targets, sample_weight=weigh(train, recipe))
        logits = torch.from_numpy(_logits(model, known, len(labels)))
        temperature = fit_temperature(logits, torch.from_numpy(checked), weights * doubtful)
        loss = log_loss(_softmax(logits, temperature), checked, weights.numpy())
        if loss < best:
            best = loss
            answer = _softmax(torch.from_numpy(_logits(model, asked, len(labels))), temperature)
    return answer


def _features() -> FeatureUnion:
    return FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, dtype=np.float32)),
            (
                "characters",
                TfidfVectorizer(
                    analyzer="char_wb",
                    ngram_range=(3, 5),
                    min_df=3,
                    max_features=200_000,
                    sublinear_tf=True,
                    dtype=np.float32,
                ),
            ),
        ]
    )


def _text(product: Product) -> str:
    """Return the title twice and the start of the description, so that the title weighs more."""
    return re.sub(r"\s+", " ", f"{product.title} {product.title} {product.description[:CHARACTERS]}")


def _logits(model: LogisticRegression, rows: object, classes: int) -> Array:
    """Return logits for every category; one without a training product gets a hopeless one."""
    logits = np.full((rows.shape[0], classes), -30.0, np.float32)  # type: ignore[attr-defined]
    logits[:, model.classes_] = model.decision_function(rows)
    return logits


def _softmax(logits: torch.Tensor, temperature: float) -> Probabilities:
    probabilities: Probabilities = (logits.double() / temperature).softmax(dim=1).float().numpy()
    return probabilities
