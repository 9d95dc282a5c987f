"""Predict with TF-IDF and logistic regression, the baseline of every text model."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

# The inverse strengths of L2 to choose from by validation log-loss.
STRENGTHS = (5.0, 20.0, 60.0)

# Beyond this a description adds character n-grams by the hundred and hardly a new word.
CHARACTERS = 1_000

Texts = Sequence[tuple[str, str]]  # title and description
Targets = npt.NDArray[np.int64]
Array = npt.NDArray[np.float32]


def predict_with_tfidf(
    train: tuple[Texts, Targets], validation: tuple[Texts, Targets], test: Texts, classes: int
) -> Array:
    """Return probabilities (n, classes) float32 of the test texts.

    The baseline is given what our models are given: the same training rows, and its strength and its temperature
    are chosen by the validation rows.
    """
    features = _features()
    rows = features.fit_transform(list(map(_text, train[0])))
    known, asked = (features.transform(list(map(_text, texts))) for texts in (validation[0], test))
    best, answer = np.inf, np.empty((0, classes), np.float32)
    for strength in STRENGTHS:
        # lbfgs minimises the multinomial loss itself; liblinear would only fit one category against the rest.
        model = LogisticRegression(C=strength, solver="lbfgs", max_iter=200, tol=1e-3).fit(rows, train[1])
        logits = _logits(model, known, classes)
        temperature, loss = _temperature(logits, validation[1])
        if loss < best:
            best, answer = loss, softmax(_logits(model, asked, classes) / temperature, axis=1).astype(np.float32)
    return answer


def _features() -> FeatureUnion:
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32, min_df=2)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, dtype=np.float32, min_df=3, max_features=300_000
    )
    return FeatureUnion([("words", words), ("characters", characters)])


def _text(text: tuple[str, str]) -> str:
    """Return the title twice and the start of the description, so that the title weighs more."""
    title, description = text
    return re.sub(r"\s+", " ", f"{title} {title} {description[:CHARACTERS]}")


def _logits(model: LogisticRegression, rows: object, classes: int) -> npt.NDArray[np.float64]:
    """Return logits for every category; one without a training product gets a hopeless one."""
    scores = model.decision_function(rows)
    if scores.ndim == 1:  # scikit-learn gives one column for two categories
        scores = np.stack([-scores / 2, scores / 2], axis=1)
    logits = np.full((len(scores), classes), -30.0)
    logits[:, model.classes_] = scores
    return logits


def _temperature(logits: npt.NDArray[np.float64], targets: Targets) -> tuple[float, float]:
    """Return the temperature of the lowest log-loss, and that log-loss."""

    def loss(log_temperature: float) -> float:
        scores = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scores[np.arange(len(targets)), targets].mean())

    found = minimize_scalar(loss, bounds=(-3, 3), method="bounded")
    return float(np.exp(found.x)), float(found.fun)
