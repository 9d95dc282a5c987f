"""Classify claimed predictions: store their results, try them again, postpone them or fail them."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _
from PIL import Image

from classifier.ml.classifier import ProductInput
from classifier.models import Category, Fault, Prediction
from classifier.serving import notifications, results, shadow
from classifier.serving.inference import OUTAGES, ModelFailed, ModelFailure, PredictionResult, predict_batch
from classifier.serving.photos import UnreadablePhoto, read_photos
from classifier.serving.results import AnsweredProduct
from common.object_storage import StorageDown

log = logging.getLogger(__name__)

FIRST_RETRY = timedelta(seconds=2)
OUTAGE_PAUSE = timedelta(seconds=10)


@dataclass(frozen=True)
class ClaimedProduct:
    """A claimed prediction and what the models read of it."""

    prediction: Prediction
    product: ProductInput


def classify_claimed(predictions: Sequence[Prediction]) -> None:
    """Compute, store and announce the results of predictions that were claimed together.

    A batch that raises is tried again row by row, so that a row that breaks the models fails alone. An outage that
    concerns every row, such as of the storage, counts as no row's attempt. Shadows run after the results are stored.
    """
    to_classify: list[Prediction] = []
    for prediction in predictions:
        if prediction.attempts > settings.MAX_ATTEMPTS:
            # Its workers died without a word: the row may be what kills them.
            _fail(prediction, _("We couldn't work on this product. Please check its photo and text, then try again."))
        else:
            to_classify.append(prediction)
    if claimed := _read_inputs(to_classify):
        categories = _categories_by_slug()
        if answered := _classify_and_store(claimed, categories):
            shadow.run_shadows(answered, categories)


def predict_now(*, title: str, description: str, photo: Image.Image | None) -> tuple[PredictionResult, list[Category]]:
    """Classify one product in this process, storing nothing; return the result and the categories in its order."""
    found, categories = predict_many_now([ProductInput(title, description, photo)])
    return found[0], categories


def predict_many_now(products: Sequence[ProductInput]) -> tuple[list[PredictionResult], list[Category]]:
    """Classify products in this process, storing nothing; return the results and the categories in their order.

    Raises one of OUTAGES when no model can be loaded, and ModelFailed.
    """
    categories = _categories_by_slug()
    keys = [uuid4() for _product in products]
    return predict_batch(products, keys, categories).results, categories


def _categories_by_slug() -> list[Category]:
    return list(Category.objects.select_related("redirect").order_by("slug"))


def _read_inputs(predictions: Sequence[Prediction]) -> list[ClaimedProduct]:
    """Return the predictions whose photo could be read or that have none; the others are postponed or failed."""
    claimed: list[ClaimedProduct] = []
    postponed: list[Prediction] = []
    for prediction, photo in zip(predictions, read_photos(predictions), strict=True):
        if isinstance(photo, StorageDown):
            postponed.append(prediction)
        elif isinstance(photo, Exception):
            _retry_or_fail(prediction, photo)
        else:
            product = ProductInput(prediction.title, prediction.description, photo)
            claimed.append(ClaimedProduct(prediction, product))
    _postpone(postponed)
    return claimed


def _classify_and_store(claimed: Sequence[ClaimedProduct], categories: Sequence[Category]) -> list[AnsweredProduct]:
    """Return the products whose results were stored."""
    predictions = [each.prediction for each in claimed]
    products = [each.product for each in claimed]
    # The product's id, so that the same variants answer it each time; a prediction without one uses its own.
    keys = [prediction.variant_key or prediction.pk for prediction in predictions]
    start = time.perf_counter()
    try:
        batch = predict_batch(products, keys, categories)
    except OUTAGES as error:
        log.warning("%d predictions wait: %s", len(claimed), type(error).__name__)
        _postpone(predictions)
        return []
    except Exception as error:  # noqa: BLE001 - any error is recorded with its rows
        if len(claimed) > 1:
            log.warning("A batch of %d failed (%s); trying its rows one by one.", len(claimed), type(error).__name__)
            stored: list[AnsweredProduct] = []
            for each in claimed:
                stored += _classify_and_store([each], categories)
            return stored
        if isinstance(error, ModelFailed):
            _record_failures(error.failures)
        _retry_or_fail(predictions[0], error)
        return []
    milliseconds = (time.perf_counter() - start) * 1000 / len(claimed)
    answered = [
        AnsweredProduct(each.prediction, each.product, result)
        for each, result in zip(claimed, batch.results, strict=True)
    ]
    done = results.store_results(answered, categories, milliseconds=milliseconds)
    # Announced after the commit: a request that is woken must find the result.
    notifications.publish_finished(done)
    _record_failures(batch.failures)
    return [each for each in answered if each.prediction.pk in done]


def _record_failures(failures: Sequence[ModelFailure]) -> None:
    for failure in failures:
        log.warning("%s could not answer %d rows: %s", failure.version, failure.rows, failure.error)
    Fault.objects.bulk_create(
        Fault(version=failure.version, rows=failure.rows, error=failure.error[:200]) for failure in failures
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
        # Growing pauses: an error that passes by itself needs time, and a row must not occupy workers.
        pause = FIRST_RETRY * 2 ** (prediction.attempts - 1)
        Prediction.objects.held(prediction).update(state=Prediction.State.QUEUED, available_at=Now() + pause)


def _postpone(predictions: Sequence[Prediction]) -> None:
    if predictions:
        Prediction.objects.release(predictions, pause=OUTAGE_PAUSE)


def _fail(prediction: Prediction, message: str) -> None:
    # Guarded by the lease: a worker that lost its row must not fail what another one has answered.
    failed = Prediction.objects.held(prediction).update(
        state=Prediction.State.FAILED, error=message, finished_at=timezone.now()
    )
    if failed:
        notifications.publish_finished([prediction.pk])
