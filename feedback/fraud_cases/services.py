"""What people do with a case: confirm it, clear it, appeal, be told of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from common.leases import claim_rows
from feedback.models.cases import Case, CaseEvent, CaseQuerySet
from feedback.notifications import LEASE, mail_staff

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

JUDGE_PERMISSION = "feedback.judge_case"
REASON_LENGTH = 2000
APPEAL_LENGTH = 2000
SELLERS_PER_MAIL = 10  # cases in one mail


class CaseNotOpen(Exception):
    """The case is not in a state any more from which this can be done."""


def confirm_case(*, case: Case, by: "AbstractBaseUser", reason: str) -> None:
    """Say that the seller did it on purpose. Their answers stay out of training; nothing else happens to them.

    Raises ValidationError without a reason, CaseNotOpen for a case that isn't open any more.
    """
    _decide(case, Case.objects.filter(state=Case.State.OPEN), Case.State.CONFIRMED, by, reason)


def uphold_case(*, case: Case, by: "AbstractBaseUser", reason: str) -> None:
    """Say that the seller's note was read, and that the case stays confirmed.

    Raises ValidationError without a reason, CaseNotOpen for a case without a note that waits for it.
    """
    _decide(case, Case.objects.appealed(), Case.State.CONFIRMED, by, reason)


def clear_case(*, case: Case, by: "AbstractBaseUser", reason: str) -> None:
    """Say that nothing is wrong, also after an appeal. The seller's answers up to now are never evidence again.

    Raises ValidationError without a reason, CaseNotOpen for a case that is cleared already.
    """
    _decide(case, Case.objects.standing(), Case.State.CLEARED, by, reason)


def appeal_case(*, seller: "AbstractBaseUser", note: str) -> None:
    """Put the seller's note on their confirmed case, once.

    Raises ValidationError for no note or too long a one, CaseNotOpen where there is nothing to appeal any more.
    """
    if not settings.FRAUD_APPEALS:
        raise CaseNotOpen(_("There is nothing to answer here."))
    note = _text(note, APPEAL_LENGTH, _("Write a sentence or two first."))
    with transaction.atomic():
        waiting = Case.objects.appealable(seller).filter(appealed_at=None)
        case = waiting.first()
        if case is None or not waiting.filter(pk=case.pk).update(appeal=note, appealed_at=timezone.now()):
            raise CaseNotOpen(_("There is nothing to answer here."))
        CaseEvent.objects.create(case=case, action=CaseEvent.Action.APPEALED, by_id=seller.pk, note=note)


def mail_new_cases() -> int:
    """Mail the staff who may judge cases about new open cases, once each; return how many cases."""
    return _send_case_mail(
        Case.objects.filter(state=Case.State.OPEN),
        "notified_at",
        lambda count: ngettext("Aisle: %(count)d new fraud case", "Aisle: %(count)d new fraud cases", count),
        _(
            "The answers of these sellers look like intent rather than error:\n\n%(named)s\n\n"
            "Please look at the evidence in the admin, under Fraud cases, and confirm or clear each case. Until then "
            "these sellers' answers stay out of training. Nothing is blocked."
        ),
    )


def mail_appeals() -> int:
    """Mail the staff who may judge cases about new appeals, once each; return how many cases."""
    return _send_case_mail(
        Case.objects.appealed(),
        "appeal_notified_at",
        lambda count: ngettext(
            "Aisle: %(count)d seller answered to a case", "Aisle: %(count)d sellers answered to cases", count
        ),
        _(
            "These sellers wrote a note to their confirmed fraud case:\n\n%(named)s\n\n"
            "Please read it in the admin, under Fraud cases, and clear the case or keep it confirmed."
        ),
    )


def _send_case_mail(cases: CaseQuerySet, field: str, subject: Callable[[int], str], body: str) -> int:
    """Mail about the cases whose `field`, the time of the mail, is empty; return how many cases.

    Return 0 where no mail could be sent; the next call tries again.
    """
    claim = claim_rows(cases.filter(**{field: None}).select_related("seller").order_by("pk"), duration=LEASE)
    if claim is None:
        return 0
    count = len(claim.rows)
    named = "\n".join(f"- {case.seller}" for case in claim.rows[:SELLERS_PER_MAIL])
    if count > SELLERS_PER_MAIL:
        named += "\n" + _("and %(count)d more") % {"count": count - SELLERS_PER_MAIL}
    if not mail_staff(JUDGE_PERMISSION, subject(count) % {"count": count}, body % {"named": named}, claim):
        claim.release()
        return 0
    return claim.record(**{field: timezone.now()})


def _decide(case: Case, open_to_it: CaseQuerySet, state: Case.State, by: "AbstractBaseUser", reason: str) -> None:
    reason = _text(reason, REASON_LENGTH, _("Say why, in a sentence or two."))
    with transaction.atomic():
        # The lock that `opening` takes too.
        get_user_model()._default_manager.select_for_update(no_key=True).filter(pk=case.seller_id).values_list(
            "pk"
        ).first()
        found = open_to_it.filter(pk=case.pk)
        if not found.update(state=state, decided_by=by, decided_at=timezone.now(), reason=reason):
            raise CaseNotOpen(_("Somebody decided this case meanwhile. Look at it again."))
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
