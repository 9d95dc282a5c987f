"""Turn accepted and corrected answers into examples, and delete the examples of answers that are no longer trusted."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from django.core.files.storage import default_storage
from django.db.models import Count, Exists, OuterRef, TextField
from django.db.models.functions import Cast

from common.locks import Lock, hold_lock
from common.object_storage import storage_faults
from feedback.models import PREDICTIONS_VECTORS, Feedback
from feedback.models.answers import TRUSTED
from training.datasets import example_erasure
from training.datasets.examples import IncomingExample, delete_examples, store_examples
from training.datasets.importing import store_photo
from training.datasets.manifest_codes import ExclusionReason
from training.models import FEEDBACK, Example

ROWS_AT_ONCE = 500

# By the review's stored value.
REVIEW_REASONS = {
    "open": ExclusionReason.FEEDBACK_NOT_REVIEWED,
    "rejected": ExclusionReason.FEEDBACK_REJECTED,
    "homeless": ExclusionReason.FEEDBACK_NO_CATEGORY,
    "flagged": ExclusionReason.FEEDBACK_SET_ASIDE,
}


def absorb_feedback() -> Counter[str]:
    """Make accepted and corrected answers into examples, and delete the examples of answers that no longer are.

    Return for each reason how many answers that name a category are left out.
    """
    with hold_lock(Lock.TRAINING_DATA):
        return absorb_feedback_locked()


def absorb_feedback_locked() -> Counter[str]:
    """Do what `absorb_feedback` does for a caller that holds the lock on training data."""
    left_out: Counter[str] = Counter()
    trusted = (
        Feedback.objects.trusted().select_related("prediction", "category", "correction").defer(*PREDICTIONS_VECTORS)
    )
    answers = trusted.order_by("pk").iterator(chunk_size=ROWS_AT_ONCE)
    while batch := list(islice(answers, ROWS_AT_ONCE)):
        copied_photos = _copied_photos(batch)
        rows = []
        for feedback in batch:
            row = _incoming_example(feedback, *copied_photos.get(str(feedback.prediction_id), ("", "")))
            if row:
                rows.append(row)
        if rows:
            store_examples(source=FEEDBACK, rows=rows)
        left_out[ExclusionReason.FEEDBACK_PHOTO_GONE] += len(batch) - len(rows)
    # Before the examples without an answer are deleted: that would leave an erased seller's photos behind.
    example_erasure.delete_pending_examples()
    _delete_examples_without_answer()
    reviews = Feedback.objects.filter(category__isnull=False).exclude(review__in=TRUSTED)
    for review, count in reviews.order_by().values_list("review").annotate(Count("pk")):
        left_out[REVIEW_REASONS[review]] += count
    if doubted := Feedback.objects.doubted().count():
        left_out[ExclusionReason.FEEDBACK_FRAUD_CASE] = doubted
    return left_out


def _delete_examples_without_answer() -> None:
    answered = Feedback.objects.trusted().annotate(key=Cast("prediction_id", TextField()))
    gone = Example.objects.filter(~Exists(answered.filter(key=OuterRef("external_id"))), source=FEEDBACK)
    while batch := list(gone.only("pk", "external_id", "title_key", "bands")[:ROWS_AT_ONCE]):
        delete_examples(batch)


def _copied_photos(batch: Sequence[Feedback]) -> dict[str, tuple[str, str]]:
    """Return name and checksum of the photos that were copied earlier, by the examples' ids."""
    ids = [str(answer.prediction_id) for answer in batch]
    known = Example.objects.filter(source=FEEDBACK, external_id__in=ids)
    return {id: (photo, digest) for id, photo, digest in known.values_list("external_id", "photo", "photo_digest")}


def _incoming_example(feedback: Feedback, photo: str, digest: str) -> IncomingExample | None:
    """Return the product as an example; None when its photo is gone and there is no text, or no category is named."""
    prediction = feedback.prediction
    category = feedback.correction or feedback.category
    if category is None:
        return None
    # A prediction's photo never changes, so what was copied once is not read again.
    if prediction.photo_small and not photo:
        try:
            with storage_faults(), default_storage.open(prediction.photo_small) as file:
                photo, digest = store_photo(file.read())
        except FileNotFoundError:
            if not prediction.has_text:
                return None
    return IncomingExample(
        str(prediction.pk), prediction.title, prediction.description, category.current.pk, photo, digest, digest
    )
