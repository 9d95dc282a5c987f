"""From claimed rows to stored results: what is answered, tried again, put off or given up."""

import logging
import time
from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _
from PIL import Image

from classifier.models import Category, Fault, Prediction
from classifier.serving import notifications, results, shadow
from classifier.serving.inference import (
    OUTAGES,
    ModelFailed,
    ModelFailure,
    PredictionResult,
    ProductInput,
    predict_batch,
)
from classifier.serving.photos import UnreadablePhoto, read_photos
from common.object_storage import StorageDown

log = logging.getLogger(__name__)

FIRST_RETRY = timedelta(seconds=2)
OUTAGE_PAUSE = timedelta(seconds=10)


def classify_claimed(predictions: Sequence[Prediction]) -> None:
    """Compute and store the answers of predictions that were claimed together; announce those that are finished.

    A batch that raises is tried again row by row, so that a poison row fails alone. What keeps every row from its
    answer, such as a storage that is down, counts against none. Shadows look on when all is stored.
    """
    hopeful = [prediction for prediction in predictions if prediction.attempts <= settings.MAX_ATTEMPTS]
    for prediction in predictions:
        if prediction not in hopeful:
            message = _("We couldn't work on this product. Please check its photo and text, then try again.")
            _fail(prediction, message)
    if questions := _with_photos(hopeful):
        categories = _categories()
        answered = _answer_and_store(questions, categories)
        if answered:
            shadow.run_shadows(answered, categories)


def predict_now(*, title: str, description: str, photo: Image.Image | None) -> tuple[PredictionResult, list[Category]]:
    """Classify one product in this process, storing nothing; return the answer and the categories in its order."""
    answers, categories = predict_many_now([ProductInput(Prediction(title=title, description=description), photo)])
    return answers[0], categories


def predict_many_now(questions: Sequence[ProductInput]) -> tuple[list[PredictionResult], list[Category]]:
    """Classify a batch in this process, storing nothing; return the answers and the categories in their order.

    Raises one of OUTAGES when the models can't be had, and ModelFailed.
    """
    categories = _categories()
    return predict_batch(questions, categories)[0], categories


def _categories() -> list[Category]:
    return list(Category.objects.order_by("slug"))


def _with_photos(predictions: Sequence[Prediction]) -> list[ProductInput]:
    """Return the predictions whose photo could be read or that have none; the others are put off or failed."""
    questions: list[ProductInput] = []
    postponed: list[Prediction] = []
    for prediction, photo in zip(predictions, read_photos(predictions), strict=True):
        if isinstance(photo, StorageDown):
            postponed.append(prediction)
        elif isinstance(photo, Exception):
            _retry_or_fail(prediction, photo)
        else:
            questions.append(ProductInput(prediction, photo))
    _postpone(postponed)
    return questions


def _answer_and_store(questions: Sequence[ProductInput], categories: Sequence[Category]) -> list[shadow.Answered]:
    """Return what was answered and stored."""
    predictions = [question.prediction for question in questions]
    start = time.perf_counter()
    try:
        answers, troubles = predict_batch(questions, categories)
    except OUTAGES as error:
        log.warning("%d predictions wait: %s", len(questions), type(error).__name__)
        _postpone(predictions)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong, its rows say so
        if len(questions) > 1:
            log.warning("A batch of %d failed (%s); trying its rows one by one.", len(questions), type(error).__name__)
            return [pair for question in questions for pair in _answer_and_store([question], categories)]
        if isinstance(error, ModelFailed):
            _note(error.troubles)
        _retry_or_fail(predictions[0], error)
    else:
        milliseconds = (time.perf_counter() - start) * 1000 / len(questions)
        done = results.store_results(questions, answers, categories, milliseconds=milliseconds)
        notifications.publish_finished(done)
        _note(troubles)
        return [pair for pair in zip(questions, answers, strict=True) if pair[0].prediction.pk in done]
    return []


def _note(troubles: Sequence[ModelFailure]) -> None:
    for trouble in troubles:
        log.warning("%s could not answer %d rows: %s", trouble.version, trouble.rows, trouble.error)
    if troubles:
        Fault.objects.bulk_create(
            Fault(version=trouble.version, rows=trouble.rows, error=trouble.error[:200]) for trouble in troubles
        )


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
        Prediction.objects.held(prediction).update(state=Prediction.State.QUEUED, available_at=Now() + pause)


def _postpone(predictions: Sequence[Prediction]) -> None:
    if predictions:
        Prediction.objects.give_back(predictions, pause=OUTAGE_PAUSE)


def _fail(prediction: Prediction, message: str) -> None:
    failed = Prediction.objects.held(prediction).update(
        state=Prediction.State.FAILED, error=message, finished_at=timezone.now()
    )
    if failed:
        notifications.publish_finished([prediction.pk])
