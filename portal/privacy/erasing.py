"""Erase accounts batch by batch, so that an erasure can be interrupted anywhere and continued.

A batch is recorded (a row, and a file of the ledger), then its rows are deleted, then its files. When all batches are
done and workers that still held their rows have had time to finish, every batch is deleted a second time, and then the
account itself.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from classifier.models import Prediction
from common.object_storage import StorageDown
from feedback.models import Erasure, ErasureBatch
from feedback.models.erasures import LEASE
from portal.models import Product, ProductPhoto, User
from portal.privacy import ledger, mail, traces
from portal.privacy.models import PrivacyEvent, log_event

log = logging.getLogger(__name__)

BATCH = 200
PHOTOS = ("photo_large", "photo_small")
# Longer than a worker that has read a row of the account takes to write its part of the archive.
SECOND_PASS = timedelta(minutes=2)
PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=1)


class LeaseLost(Exception):
    """Another worker has claimed the erasure."""


def erase_due() -> int:
    """Continue every erasure that is due; return how many were claimed."""
    write_ledger()
    taken = 0
    while erasure := Erasure.objects.claim():
        taken += 1
        continue_erasure(erasure)
    return taken


def write_ledger() -> None:
    """Write new requests and cancellations to the ledger; what the storage refuses is tried again later."""
    try:
        for erasure in Erasure.objects.filter(is_in_ledger=False).order_by("asked_at").iterator(chunk_size=BATCH):
            ledger.write_request(erasure)
            # Only in the state that was written: a change since then has to be written, too.
            Erasure.objects.filter(pk=erasure.pk, state=erasure.state).update(is_in_ledger=True)
    except StorageDown as error:
        log.warning("The ledger of erasures could not be written yet: %s", error)


def continue_erasure(erasure: Erasure) -> None:
    """Do all that is possible now for a claimed erasure; store when it continues, or that it is done."""
    try:
        _erase(erasure)
    except LeaseLost:
        log.warning("Erasure %s now belongs to another worker.", erasure.pk)
    except StorageDown as error:
        log.warning("Erasure %s waits for the storage: %s", erasure.pk, error)
        pause = min(PAUSE * 2 ** min(erasure.attempts - 1, 10), LONGEST_PAUSE)
        Erasure.objects.held(erasure).update(due_at=timezone.now() + pause, lease=None, error=str(error)[:200])


def account_of(erasure: Erasure) -> User | None:
    """Return the account, or None when it is gone; its number may since belong to another account."""
    return User.objects.filter(pk=erasure.account, date_joined=erasure.joined_at).first()


def _erase(erasure: Erasure) -> None:
    ledger.write_request(erasure)
    if erasure.attempts == 1:
        log_event(PrivacyEvent.Kind.ERASURE_STARTED, account=erasure.account, actor=erasure.asked_by)
    user = account_of(erasure)
    if user:
        _count(erasure, traces.close_account(user))
    # Interrupted batches first: their rows may be gone already, and only the batch still names the files.
    for begun in erasure.batches.filter(done_at=None):
        _delete(erasure, begun)
    while user and (batch := _next_batch(erasure, user)):
        _delete(erasure, batch)
        erasure.sweep_at = None  # rows that were deleted just now need the second pass later, too
    if erasure.sweep_at is None:
        erasure.sweep_at = timezone.now() + SECOND_PASS
        Erasure.objects.held(erasure).update(sweep_at=erasure.sweep_at)
    if timezone.now() < erasure.sweep_at:
        Erasure.objects.held(erasure).update(due_at=erasure.sweep_at, lease=None, attempts=1, error="")
        return
    # A worker that had read a row before it was deleted may have written files since.
    for done in erasure.batches.filter(swept_at=None):
        _count(erasure, traces.delete_rows(done.predictions))
        _count(erasure, traces.delete_files(done.predictions, done.photos), without="photos")
        ErasureBatch.objects.filter(pk=done.pk).update(swept_at=timezone.now())
    if user and not _delete_account(erasure, user):
        return
    _finish(erasure)


def _next_batch(erasure: Erasure, user: User) -> ErasureBatch | None:
    """Record the next batch: predictions with their photos, then the photos that no prediction names."""
    rows = list(Prediction.objects.filter(seller=user).order_by("-created_at").values_list("pk", *PHOTOS)[:BATCH])
    ids = [pk for pk, *_photos in rows]
    products = Product.objects.filter(prediction__in=ids).values_list(*PHOTOS)
    photos = {name for _pk, *names in rows for name in names} | {name for names in products for name in names}
    if not rows:
        # The rows are deleted once their files are recorded.
        left = ProductPhoto.objects.for_seller(user).values_list("large", "small")[:BATCH]
        photos = {name for names in left for name in names}
    photos.discard("")
    if not ids and not photos:
        return None
    last = erasure.batches.aggregate(Max("number"))["number__max"] or 0
    return ErasureBatch.objects.create(erasure=erasure, number=last + 1, predictions=ids, photos=sorted(photos))


def _delete(erasure: Erasure, batch: ErasureBatch) -> None:
    ledger.write_batch(batch)  # before anything is deleted: after a restore only the ledger knows the ids
    counts = traces.delete_rows(batch.predictions)
    ProductPhoto.objects.filter(large__in=batch.photos, seller_id=erasure.account).delete()
    _count(erasure, {**counts, **traces.delete_files(batch.predictions, batch.photos)})
    ErasureBatch.objects.filter(pk=batch.pk).update(done_at=timezone.now())


def _count(erasure: Erasure, counts: Mapping[str, int], *, without: str = "") -> None:
    """Add to the erasure's counts and renew its lease. Raises LeaseLost."""
    total = Counter(erasure.counts)
    total.update({name: count for name, count in counts.items() if name != without})
    erasure.counts = {name: count for name, count in sorted(total.items()) if count}
    if not Erasure.objects.held(erasure).update(counts=erasure.counts, due_at=timezone.now() + LEASE):
        raise LeaseLost


@transaction.atomic
def _delete_account(erasure: Erasure, user: User) -> bool:
    """Delete the account; return False when new rows refer to it, which have to be deleted first."""
    # While the row is locked, no new row can refer to it.
    locked = User.objects.select_for_update(of=("self",)).filter(pk=user.pk).first()
    if locked and traces.has_rows(user):
        Erasure.objects.held(erasure).update(due_at=timezone.now(), lease=None, sweep_at=None)
        return False
    address = user.email
    _count(erasure, traces.delete_user(user))
    transaction.on_commit(lambda: mail.mail_finished_erasure(address), robust=True)
    return True


def _finish(erasure: Erasure) -> None:
    """Record in the ledger and on the row that the erasure is done."""
    erasure.state, erasure.finished_at = Erasure.State.DONE, timezone.now()
    done = {"state": erasure.state, "finished_at": erasure.finished_at, "lease": None, "error": ""}
    if not Erasure.objects.held(erasure).update(**done, is_in_ledger=False):
        raise LeaseLost
    log_event(PrivacyEvent.Kind.ERASURE_DONE, account=erasure.account, actor=erasure.asked_by, **erasure.counts)
    write_ledger()
