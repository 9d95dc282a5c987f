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
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _
from PIL import Image, UnidentifiedImageError

from classifier import bell, ensemble, loading, registry
from classifier.artifact import ArtifactError
from classifier.models import Category, ModelVersion, Prediction, Variant
from classifier.storage import StorageDown, storage_faults

log = logging.getLogger(__name__)

FIRST_RETRY = timedelta(seconds=2)
OUTAGE_PAUSE = timedelta(seconds=10)
OUTAGES = (StorageDown, registry.NothingDeployed, ArtifactError)
TOP = 5
ALONE = "alone"  # the rule of a product that one model alone could answer


class UnreadablePhoto(Exception):
    """The stored photo can't be decoded; trying again won't help."""


@dataclass(frozen=True)
class Question:
    """A prediction and its photo, decoded."""

    prediction: Prediction
    photo: Image.Image | None = None


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
    ensemble: dict[str, Any] = field(default_factory=dict)


def classify(predictions: Sequence[Prediction]) -> None:
    """Compute and store the answers of claimed predictions; announce those that are finished.

    A batch that raises is tried again row by row, so that a poison row fails alone. What keeps every row from its
    answer, such as a storage that is down, counts against none.
    """
    hopeful = [prediction for prediction in predictions if prediction.attempts <= settings.MAX_ATTEMPTS]
    for prediction in predictions:
        if prediction not in hopeful:
            message = _("We couldn't work on this product. Please check its photo and text, then try again.")
            _fail(prediction, message)
    questions = _with_photos(hopeful)
    if questions:
        _answer_and_store(questions)


def _with_photos(predictions: Sequence[Prediction]) -> list[Question]:
    """Return the predictions whose photo could be read or that have none; the others are put off or failed."""
    questions: list[Question] = []
    postponed: list[Prediction] = []
    for prediction in predictions:
        if not prediction.photo_small:
            questions.append(Question(prediction))
        elif postponed:  # the storage is down: don't wait for it once more for every row
            postponed.append(prediction)
        else:
            try:
                questions.append(Question(prediction, _open_photo(prediction.photo_small)))
            except StorageDown:
                postponed.append(prediction)
            except (UnreadablePhoto, FileNotFoundError) as error:
                _retry_or_fail(prediction, error)
    _postpone(postponed)
    return questions


def _answer_and_store(questions: Sequence[Question]) -> None:
    predictions = [question.prediction for question in questions]
    start = time.perf_counter()
    try:
        categories = _categories()
        answers = _answer(questions, categories)
    except OUTAGES as error:
        log.warning("%d predictions wait: %s", len(questions), type(error).__name__)
        _postpone(predictions)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong, its rows say so
        if len(questions) == 1:
            _retry_or_fail(predictions[0], error)
        else:
            log.warning("A batch of %d failed (%s); trying its rows one by one.", len(questions), type(error).__name__)
            for question in questions:
                _answer_and_store([question])
    else:
        milliseconds = (time.perf_counter() - start) * 1000 / len(questions)
        _store(predictions, answers, categories, milliseconds)


def predict_now(*, title: str, description: str, photo: Image.Image | None) -> tuple[Answer, list[Category]]:
    """Answer one question in this process, storing nothing; return the answer and the categories in its order."""
    answers, categories = answer_now([Question(Prediction(title=title, description=description), photo)])
    return answers[0], categories


def answer_now(questions: Sequence[Question]) -> tuple[list[Answer], list[Category]]:
    """Answer a batch in this process, storing nothing; return the answers and the categories in their order.

    Raises one of OUTAGES when the models can't be had.
    """
    categories = _categories()
    return _answer(questions, categories), categories


def shown(probabilities: np.ndarray, categories: Sequence[Category]) -> dict[str, float]:
    """Return {slug: probability}, rounded to six digits."""
    return {c.slug: round(float(p), 6) for c, p in zip(categories, probabilities, strict=True)}


def five_likeliest(probabilities: np.ndarray, categories: Sequence[Category]) -> list[dict[str, Any]]:
    """Return the five likeliest of the categories that sellers are offered."""
    offered = [i for i, category in enumerate(categories) if category.is_active]
    names = {categories[i].slug: categories[i].name for i in offered}
    ranked = ensemble.top_k(probabilities[offered], list(names), TOP)
    return [{"category": names[slug], "slug": slug, "probability": round(float(p), 6)} for slug, p in ranked]


def _categories() -> list[Category]:
    return list(Category.objects.order_by("slug"))


def _open_photo(name: str) -> Image.Image:
    with storage_faults(), default_storage.open(name) as file:
        content = file.read()
    try:
        return Image.open(io.BytesIO(content)).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UnreadablePhoto from error


def _answer(questions: Sequence[Question], categories: Sequence[Category]) -> list[Answer]:
    slugs = [category.slug for category in categories]
    variants = registry.deployed()
    answers = [Answer() for _question in questions]

    for version, rows in _group(questions, variants["text"], lambda question: question.prediction.has_text).items():
        model = loading.load_text(version)
        asked = [questions[i].prediction for i in rows]
        output = model.predict([p.title for p in asked], [p.description for p in asked])
        probabilities = ensemble.align(output.probabilities, model.labels, slugs)
        for row, p, embedding in zip(rows, probabilities, output.embeddings, strict=True):
            answers[row].text_version, answers[row].text, answers[row].text_embedding = version, p, embedding

    for version, rows in _group(questions, variants["image"], lambda question: question.photo is not None).items():
        looking = loading.load_image(version)
        output = looking.predict([photo for i in rows if (photo := questions[i].photo) is not None])
        probabilities = ensemble.align(output.probabilities, looking.labels, slugs)
        for row, p, embedding in zip(rows, probabilities, output.embeddings, strict=True):
            answers[row].image_version, answers[row].image, answers[row].image_embedding = version, p, embedding

    rules = registry.rules()
    for answer in answers:
        _combine(answer, rules, slugs)
    return answers


def _combine(answer: Answer, rules: dict[tuple[int, int], ensemble.Rule], slugs: Sequence[str]) -> None:
    """Set what both models say together and how it came about."""
    text, image = answer.text_version, answer.image_version
    text_row = None if answer.text is None else answer.text[np.newaxis]
    image_row = None if answer.image is None else answer.image[np.newaxis]
    # Without a rule of their own, two models answer by the plain mean, which nobody may take at its word.
    rule = ensemble.Rule(text=text.accuracy if text else 1.0, image=image.accuracy if image else 1.0)
    if text and image:
        rule = rules.get((text.pk, image.pk), rule)
    answer.combined = ensemble.combine(text_row, image_row, rule, slugs)[0]
    if text_row is not None and image_row is not None:
        weights = rule.weights(text_row, image_row)[0]
        answer.ensemble = {
            "rule": rule.kind,
            "text": float(weights[0]),
            "image": float(weights[1]),
            "temperature": rule.temperature,
            "calibrated": rule.calibrated,
        }
    else:
        alone = {version.modality: version.accuracy for version in (text, image) if version}
        answer.ensemble = {"rule": ALONE, **alone, "temperature": 1.0, "calibrated": True}


def _group(
    questions: Sequence[Question], variants: list[Variant], wanted: Callable[[Question], bool]
) -> dict[ModelVersion, list[int]]:
    """Return the numbers of the questions that each version answers; each of the versions can be loaded."""
    chosen: dict[ModelVersion, list[int]] = defaultdict(list)
    for i, question in enumerate(questions):
        if wanted(question):
            chosen[registry.choose_variant(variants, question.prediction.pk)].append(i)
    groups: dict[ModelVersion, list[int]] = defaultdict(list)
    for version, rows in chosen.items():
        groups[loading.standing(version)] += rows
    return groups


def _store(
    predictions: Sequence[Prediction],
    answers: Sequence[Answer],
    categories: Sequence[Category],
    milliseconds: float,
) -> None:
    done = []
    for prediction, answer in zip(predictions, answers, strict=True):
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
    elif prediction.attempts >= settings.MAX_ATTEMPTS:
        log.error("Prediction %s failed for good.", prediction.pk, exc_info=error)
        _fail(prediction, _("Something went wrong on our side. Your product is saved: please try again."))
    else:
        log.warning("Prediction %s failed (attempt %d).", prediction.pk, prediction.attempts, exc_info=error)
        pause = FIRST_RETRY * 2 ** (prediction.attempts - 1)
        Prediction.objects.held(prediction).update(state=Prediction.State.QUEUED, due_at=Now() + pause)


def _postpone(predictions: Sequence[Prediction]) -> None:
    """Queue rows again after a pause, without counting the try: what is wrong is not theirs."""
    if predictions:
        ids = [prediction.pk for prediction in predictions]
        Prediction.objects.filter(pk__in=ids, state=Prediction.State.RUNNING, lease=predictions[0].lease).update(
            state=Prediction.State.QUEUED, due_at=Now() + OUTAGE_PAUSE, attempts=F("attempts") - 1
        )


def _fail(prediction: Prediction, message: str) -> None:
    failed = Prediction.objects.held(prediction).update(
        state=Prediction.State.FAILED, error=message, finished_at=timezone.now()
    )
    if failed:
        bell.announce([prediction.pk])
