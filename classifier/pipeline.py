"""Where rows meet models: the only place."""

import io
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
from django.conf import settings
from django.core.files.storage import default_storage
from django.utils import timezone
from django.utils.translation import gettext as _
from PIL import Image, UnidentifiedImageError

from classifier import bell, ensemble, registry
from classifier.models import Category, ModelVersion, Prediction
from classifier.storage import StorageDown, storage_faults

log = logging.getLogger(__name__)

FIRST_RETRY = timedelta(seconds=2)
OUTAGE_RETRY = timedelta(seconds=5)
LONGEST_OUTAGE = timedelta(days=1)
TOP = 5


class UnreadablePhoto(Exception):
    """The stored photo can't be decoded; trying again won't help."""


@dataclass
class Answer:
    """What the models said of one prediction; arrays (categories,) in the order of the slugs."""

    combined: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    text_version: ModelVersion | None = None
    image_version: ModelVersion | None = None
    text: np.ndarray | None = None
    image: np.ndarray | None = None
    text_embedding: np.ndarray | None = None
    image_embedding: np.ndarray | None = None
    ensemble: dict[str, float] = field(default_factory=dict)


def classify(predictions: Sequence[Prediction]) -> None:
    """Compute and store the answers of claimed predictions; announce those that are finished.

    A batch that raises is tried again row by row, so that a poison row fails alone.
    """
    fresh = [prediction for prediction in predictions if prediction.attempts <= settings.MAX_ATTEMPTS]
    for prediction in set(predictions) - set(fresh):
        _fail(
            prediction,
            _("We couldn't work on this product. Please check its photo and text, then try again."),
        )
    if not fresh:
        return
    start = time.perf_counter()
    try:
        answers = _compute(fresh)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong, its rows say so
        if len(fresh) == 1:
            _retry_or_fail(fresh[0], error)
        else:
            log.warning("A batch of %d failed (%s); trying its rows one by one.", len(fresh), type(error).__name__)
            for prediction in fresh:
                classify([prediction])
        return
    milliseconds = (time.perf_counter() - start) * 1000 / len(fresh)
    _store(fresh, answers, milliseconds)


def predict_now(*, title: str, description: str, photo: Image.Image | None) -> tuple[Answer, list[Category]]:
    """Answer one question in this process, storing nothing; return the answer and the categories in its order."""
    prediction = Prediction(title=title, description=description, photo_small="given" if photo else "")
    categories = _categories()
    answers = _answer([prediction], [photo], categories)
    return answers[0], categories


def shown(probabilities: np.ndarray, categories: Sequence[Category]) -> dict[str, float]:
    """Return {slug: probability}, rounded to six digits."""
    return {c.slug: round(float(p), 6) for c, p in zip(categories, probabilities, strict=True)}


def five_likeliest(probabilities: np.ndarray, categories: Sequence[Category]) -> list[dict[str, Any]]:
    names = {category.slug: category.name for category in categories}
    ranked = ensemble.top_k(probabilities, [category.slug for category in categories], TOP)
    return [{"category": names[slug], "slug": slug, "probability": round(float(p), 6)} for slug, p in ranked]


def _categories() -> list[Category]:
    return list(Category.objects.order_by("slug"))


def _compute(predictions: Sequence[Prediction]) -> list[tuple[Answer, list[Category]]]:
    categories = _categories()
    photos = [_open_photo(p.photo_small) if p.photo_small else None for p in predictions]
    return [(answer, categories) for answer in _answer(predictions, photos, categories)]


def _open_photo(name: str) -> Image.Image:
    with storage_faults(), default_storage.open(name) as file:
        content = file.read()
    try:
        return Image.open(io.BytesIO(content)).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UnreadablePhoto from error


def _answer(
    predictions: Sequence[Prediction], photos: Sequence[Image.Image | None], categories: Sequence[Category]
) -> list[Answer]:
    slugs = [category.slug for category in categories]
    variants = registry.deployed()
    answers = [Answer() for _prediction in predictions]

    for version, rows in _group(predictions, variants["text"], lambda i: predictions[i].has_text).items():
        model = registry.load_text(version)
        output = model.predict([predictions[i].title for i in rows], [predictions[i].description for i in rows])
        probabilities = ensemble.align(output.probabilities, model.labels, slugs)
        for row, p, embedding in zip(rows, probabilities, output.embeddings, strict=True):
            answers[row].text_version, answers[row].text, answers[row].text_embedding = version, p, embedding

    for version, rows in _group(predictions, variants["image"], lambda i: photos[i] is not None).items():
        looking = registry.load_image(version)
        output = looking.predict([photo for i in rows if (photo := photos[i]) is not None])
        probabilities = ensemble.align(output.probabilities, looking.labels, slugs)
        for row, p, embedding in zip(rows, probabilities, output.embeddings, strict=True):
            answers[row].image_version, answers[row].image, answers[row].image_embedding = (
                version,
                p,
                embedding,
            )

    pairs = registry.temperatures()
    for answer in answers:
        _combine(answer, pairs)
    return answers


def _combine(answer: Answer, temperatures: dict[tuple[int, int], float]) -> None:
    text, image = answer.text_version, answer.image_version
    answer.ensemble = {version.modality: version.accuracy for version in (text, image) if version}
    temperature = temperatures.get((text.pk, image.pk), 1.0) if text and image else 1.0
    answer.combined = ensemble.combine(
        None if answer.text is None else answer.text[np.newaxis],
        None if answer.image is None else answer.image[np.newaxis],
        text_weight=answer.ensemble.get("text", 1.0),
        image_weight=answer.ensemble.get("image", 1.0),
        temperature=temperature,
    )[0]
    answer.ensemble["temperature"] = temperature


def _group(
    predictions: Sequence[Prediction], variants: list[Any], wanted: Callable[[int], bool]
) -> dict[ModelVersion, list[int]]:
    """Return the row numbers that each version serves."""
    groups: dict[ModelVersion, list[int]] = defaultdict(list)
    for i, prediction in enumerate(predictions):
        if wanted(i):
            groups[registry.choose_variant(variants, prediction.pk)].append(i)
    return groups


def _store(
    predictions: Sequence[Prediction], answers: Sequence[tuple[Answer, list[Category]]], milliseconds: float
) -> None:
    done = []
    for prediction, (answer, categories) in zip(predictions, answers, strict=True):
        stored = Prediction.objects.held(prediction).update(
            state=Prediction.State.DONE,
            error="",
            text_version=answer.text_version,
            image_version=answer.image_version,
            text_probabilities=None if answer.text is None else shown(answer.text, categories),
            image_probabilities=None if answer.image is None else shown(answer.image, categories),
            probabilities=shown(answer.combined, categories),
            ensemble=answer.ensemble,
            top5=five_likeliest(answer.combined, categories),
            text_embedding=answer.text_embedding,
            image_embedding=answer.image_embedding,
            milliseconds=milliseconds,
            finished_at=timezone.now(),
        )
        if stored:
            done.append(prediction.pk)
    bell.announce(done)


def _retry_or_fail(prediction: Prediction, error: Exception) -> None:
    if isinstance(error, UnreadablePhoto):
        log.warning("Prediction %s has an unreadable photo.", prediction.pk)
        _fail(prediction, _("We couldn't read this photo. Please take or choose another one."))
    elif isinstance(error, StorageDown) and timezone.now() - prediction.created_at < LONGEST_OUTAGE:
        log.warning("Prediction %s waits for the storage.", prediction.pk)
        # Not the row's fault, so not one of its tries.
        _queue_again(prediction, OUTAGE_RETRY, attempts=prediction.attempts - 1)
    elif prediction.attempts >= settings.MAX_ATTEMPTS:
        log.error("Prediction %s failed for good.", prediction.pk, exc_info=error)
        _fail(prediction, _("Something went wrong on our side. Your product is saved: please try again."))
    else:
        log.warning("Prediction %s failed (attempt %d).", prediction.pk, prediction.attempts, exc_info=error)
        _queue_again(prediction, FIRST_RETRY * 2 ** (prediction.attempts - 1))


def _queue_again(prediction: Prediction, pause: timedelta, **changes: Any) -> None:
    Prediction.objects.held(prediction).update(state=Prediction.State.QUEUED, due_at=timezone.now() + pause, **changes)


def _fail(prediction: Prediction, message: str) -> None:
    failed = Prediction.objects.held(prediction).update(
        state=Prediction.State.FAILED, error=message, finished_at=timezone.now()
    )
    if failed:
        bell.announce([prediction.pk])
