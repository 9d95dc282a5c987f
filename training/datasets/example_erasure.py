"""Delete the examples that were made from an erased seller's answers, and the copies of their photos."""

from collections.abc import Collection

from django.core.files.storage import storages

from common.object_storage import storage_faults
from feedback.models import ErasureBatch
from training.datasets import reference_set
from training.datasets.examples import delete_examples
from training.models import FEEDBACK, Example

ROWS_AT_ONCE = 500


def delete_pending_examples() -> None:
    """Delete the examples of all batches of erasures that are not applied to training yet. Raises StorageDown."""
    for batch in ErasureBatch.objects.filter(forgotten_at=None).iterator(chunk_size=ROWS_AT_ONCE):
        delete_examples_of_predictions([str(pk) for pk in batch.predictions])


def delete_examples_of_predictions(predictions: Collection[str]) -> None:
    """Delete the examples made from these predictions' answers, with their photos. Raises StorageDown."""
    ids = sorted(predictions)
    for start in range(0, len(ids), ROWS_AT_ONCE):
        found = Example.objects.filter(source=FEEDBACK, external_id__in=ids[start : start + ROWS_AT_ONCE])
        batch = list(found.only("pk", "external_id", "title_key", "bands", "photo_digest"))
        photos = {example.photo_digest for example in batch} - {""}
        # The photos first: after the examples are deleted, nothing would name a photo that is left.
        delete_unused_photos(photos, without=[example.pk for example in batch])
        delete_examples(batch)
        reference_set.delete_products_of_predictions(ids[start : start + ROWS_AT_ONCE])


def delete_unused_photos(digests: Collection[str], without: Collection[int] = ()) -> None:
    """Delete copies of photos, by checksum, that no example but the named ones uses. Raises StorageDown."""
    used = Example.objects.filter(photo_digest__in=digests).exclude(pk__in=without)
    for digest in set(digests) - set(used.values_list("photo_digest", flat=True)):
        with storage_faults():
            storages["datasets"].delete(f"photos/{digest}.jpg")
