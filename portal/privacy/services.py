"""Request, cancel and replay erasures, and request data exports."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from feedback.models import Erasure, ErasureBatch
from portal.accounts import notices
from portal.models import User
from portal.privacy import erasing, ledger, mail
from portal.privacy.models import Export, PrivacyEvent, log_event

Via = Erasure.Via


class Refused(Exception):
    """The request can't be carried out; the message says why."""


def request_erasure(*, user: User, by: User | None, via: Erasure.Via, now: bool = False) -> Erasure:
    """Schedule the erasure of an account after ERASURE_DAYS, or at once with `now`.

    An erasure that is already scheduled is returned; `now` brings it forward. Raises Refused for the last
    administrator.
    """
    if user.is_superuser and not User.objects.filter(is_superuser=True, is_active=True).exclude(pk=user.pk).exists():
        raise Refused(_("This is the last administrator. Make someone else an administrator first."))
    due = timezone.now() + (timedelta() if now else timedelta(days=settings.ERASURE_DAYS))
    try:
        with transaction.atomic():
            erasure = Erasure.objects.create(
                account=user.pk, joined_at=user.date_joined, via=via, asked_by=by.pk if by else None, due_at=due
            )
            log_event(PrivacyEvent.Kind.ERASURE_ASKED, account=user.pk, actor=by.pk if by else None, via=via.value)
    except IntegrityError:  # a constraint allows one open erasure per account, however many requests race
        found = Erasure.objects.find_open(user.pk, user.date_joined)
        if found is None:  # it was cancelled, or done, just now
            raise Refused(_("Something about this account changed just now. Please try again.")) from None
        if now:
            Erasure.objects.filter(pk=found.pk, state=Erasure.State.ASKED).update(due_at=due)
            found.due_at = due
        return found
    if not now:
        mail.mail_scheduled_erasure(notices.confirmed_addresses(user), erasure.due_at)
    return erasure


def cancel_erasure(*, user: User, by: User | None) -> bool:
    """Cancel the erasure; return False when none is scheduled or it has begun."""
    with transaction.atomic():
        asked = Erasure.objects.filter(account=user.pk, joined_at=user.date_joined, state=Erasure.State.ASKED)
        is_cancelled = asked.update(
            state=Erasure.State.CANCELLED,
            cancelled_by=by.pk if by else None,
            finished_at=timezone.now(),
            is_in_ledger=False,
        )
        if is_cancelled:
            log_event(PrivacyEvent.Kind.ERASURE_CANCELLED, account=user.pk, actor=by.pk if by else None)
    if is_cancelled:
        mail.mail_cancelled_erasure(user.email)
    return bool(is_cancelled)


def read_ledger(*, since: datetime | None = None) -> list[Erasure]:
    """Take over what the ledger knows into the database; return the erasures that have to be repeated.

    Those are the ones that had started or were done, in the ledger or in the database; requests keep waiting. Raises
    StorageDown.
    """
    for known in ledger.read_requests():
        found = Erasure.objects.filter(pk=known.pk).first()
        if found is None:
            same = {"account": known.account, "joined_at": known.joined_at}
            Erasure.objects.filter(**same, state=Erasure.State.ASKED).delete()
            known.save(force_insert=True)
        elif found.state in Erasure.OPEN and known.state != Erasure.State.ASKED:
            Erasure.objects.filter(pk=known.pk).update(state=known.state, finished_at=known.finished_at)
    again = Erasure.objects.filter(state__in=[Erasure.State.RUNNING, Erasure.State.DONE])
    return list(again.filter(asked_at__gte=since) if since else again)


def replay_erasure(erasure: Erasure) -> None:
    """Repeat an erasure from the batches in the ledger and the database. Raises StorageDown."""
    for batch in ledger.read_batches(erasure.pk):
        values = {"predictions": batch.predictions, "photos": batch.photos}
        ErasureBatch.objects.get_or_create(erasure=erasure, number=batch.number, defaults=values)
    with transaction.atomic():
        erasure.batches.update(done_at=None, swept_at=None, forgotten_at=None)
        Erasure.objects.filter(pk=erasure.pk).update(
            state=Erasure.State.RUNNING,
            due_at=timezone.now(),
            sweep_at=timezone.now(),
            finished_at=None,
            replayed_at=timezone.now(),
            counts={},
            attempts=0,
        )
        log_event(PrivacyEvent.Kind.ERASURE_REPLAYED, account=erasure.account)
    if claimed := Erasure.objects.claim(erasure.pk):
        erasing.continue_erasure(claimed)


def request_export(*, user: User) -> Export:
    """Queue an export of all of a person's data. Raises Refused while one is being built."""
    try:
        with transaction.atomic():
            export = Export.objects.create(user=user)
            log_event(PrivacyEvent.Kind.EXPORT_ASKED, account=user.pk, actor=user.pk)
    except IntegrityError:
        raise Refused(_("A copy of your data is already being created.")) from None
    from portal.tasks import build_exports

    transaction.on_commit(build_exports.delay, robust=True)
    return export
