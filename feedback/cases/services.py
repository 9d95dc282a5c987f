"""What people do with a case: confirm it, clear it, appeal, be told of it."""

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from feedback.models.cases import Case, CaseEvent
from feedback.notifying import mail_staff

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

JUDGE = "feedback.judge_case"
REASON_LENGTH = 2000
APPEAL_LENGTH = 2000
MOST_NAMED = 10  # cases in one mail


class Decided(Exception):
    """The case is not in a state any more from which this can be done."""


def confirm_case(*, case: Case, by: "AbstractBaseUser", reason: str) -> None:
    """Say that the seller did it on purpose. Their answers stay out of training; nothing else happens to them.

    Raises ValidationError without a reason, Decided for a case that isn't open any more.
    """
    _decide(case, [Case.State.OPEN], Case.State.CONFIRMED, by, reason)


def clear_case(*, case: Case, by: "AbstractBaseUser", reason: str) -> None:
    """Say that nothing is wrong, also after an appeal. The seller's answers up to now are never evidence again.

    Raises ValidationError without a reason, Decided for a case that is cleared already.
    """
    _decide(case, [Case.State.OPEN, Case.State.CONFIRMED], Case.State.CLEARED, by, reason)


def appeal_case(*, seller: "AbstractBaseUser", note: str) -> None:
    """Put the seller's note on their confirmed case, once.

    Raises ValidationError for no note or too long a one, Decided where there is nothing to appeal any more.
    """
    if not settings.FRAUD_APPEALS:
        raise Decided(_("There is nothing to answer here."))
    note = _text(note, APPEAL_LENGTH, _("Write a sentence or two first."))
    with transaction.atomic():
        waiting = Case.objects.appealable(seller).filter(appealed_at=None)
        case = waiting.first()
        if case is None or not waiting.filter(pk=case.pk).update(appeal=note, appealed_at=timezone.now()):
            raise Decided(_("There is nothing to answer here."))
        CaseEvent.objects.create(case=case, action=CaseEvent.Action.APPEALED, by_id=seller.pk, note=note)


def tell_of_new_cases() -> int:
    """Mail those who may judge about cases that nobody was told of; return how many cases.

    Once a case: what is being told is marked first, so that two workers don't both tell. Where no mail could be sent at
    all, the next run tries again.
    """
    due = list(Case.objects.filter(state=Case.State.OPEN, notified_at=None).order_by("pk"))
    now = timezone.now()
    Case.objects.filter(pk__in=[case.pk for case in due], notified_at=None).update(notified_at=now)
    told = list(Case.objects.filter(pk__in=[case.pk for case in due], notified_at=now).select_related("seller"))
    if not told:
        return 0
    subject = ngettext("Aisle: %(count)d new fraud case", "Aisle: %(count)d new fraud cases", len(told)) % {
        "count": len(told)
    }
    named = "\n".join(f"- {case.seller}" for case in told[:MOST_NAMED])
    if len(told) > MOST_NAMED:
        named += "\n" + _("and %(count)d more") % {"count": len(told) - MOST_NAMED}
    body = _(
        "The answers of these sellers look like intent rather than error:\n\n%(named)s\n\n"
        "Please look at the evidence in the admin, under Fraud cases, and confirm or clear each case. Until then these "
        "sellers' answers stay out of training. Nothing is blocked."
    ) % {"named": named}
    if not mail_staff(JUDGE, subject, body):
        Case.objects.filter(notified_at=now).update(notified_at=None)
        return 0
    return len(told)


def _decide(case: Case, states: list[Case.State], state: Case.State, by: "AbstractBaseUser", reason: str) -> None:
    reason = _text(reason, REASON_LENGTH, _("Say why, in a sentence or two."))
    with transaction.atomic():
        # The lock that `opening` takes too.
        get_user_model()._default_manager.select_for_update().filter(pk=case.seller_id).values_list("pk").first()
        found = Case.objects.filter(pk=case.pk, state__in=states)
        if not found.update(state=state, decided_by=by, decided_at=timezone.now(), reason=reason):
            raise Decided(_("Somebody decided this case meanwhile. Look at it again."))
        CaseEvent.objects.create(case=case, action=CaseEvent.Action(state.value), by_id=by.pk, note=reason)


def _text(text: str, limit: int, missing: str) -> str:
    """Return the text in order. Raises ValidationError, with `missing` for none, and for too much."""
    text = "\n".join(line.rstrip() for line in text.replace("\x00", "").splitlines()).strip()
    if not text:
        raise ValidationError(missing)
    if len(text) > limit:
        raise ValidationError(
            _("This has %(length)d characters; the limit is %(limit)d. Shorten it, please.")
            % {"length": len(text), "limit": limit}
        )
    return text
