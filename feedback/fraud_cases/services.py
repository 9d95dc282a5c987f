"""Decide fraud cases, take appeals, and mail the staff about new cases and appeals."""

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
from common.text import clean_lines
from feedback.models.cases import Case, CaseEvent, CaseQuerySet
from feedback.notifications import LEASE, mail_staff

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

JUDGE_PERMISSION = "feedback.judge_case"
REASON_LENGTH = 2000
APPEAL_LENGTH = 2000
SELLERS_PER_MAIL = 10  # named in one mail


class CaseNotOpen(Exception):
    """Raised when the case is no longer in a state that allows the action."""


def confirm_case(*, case: Case, by: "AbstractBaseUser", reason: str) -> None:
    """Confirm that a seller acted on purpose. Their answers stay out of training; nothing is blocked.

    Raises ValidationError without a reason, CaseNotOpen for a case that was decided before.
    """
    _decide(case, Case.objects.filter(state=Case.State.OPEN), Case.State.CONFIRMED, by, reason)


def uphold_case(*, case: Case, by: "AbstractBaseUser", reason: str) -> None:
    """Keep a case confirmed after reading the seller's appeal.

    Raises ValidationError without a reason, CaseNotOpen for a case without an unanswered appeal.
    """
    _decide(case, Case.objects.appealed(), Case.State.CONFIRMED, by, reason)


def clear_case(*, case: Case, by: "AbstractBaseUser", reason: str) -> None:
    """Clear a case, open or confirmed. The seller's answers up to now are never evidence again.

    Raises ValidationError without a reason, CaseNotOpen for a case that is cleared already.
    """
    _decide(case, Case.objects.standing(), Case.State.CLEARED, by, reason)


def appeal_case(*, seller: "AbstractBaseUser", note: str) -> None:
    """Store the seller's note on their confirmed case; each case takes one.

    Raises ValidationError for a missing or too long note, CaseNotOpen where there is no case to appeal.
    """
    if not settings.FRAUD_APPEALS:
        raise CaseNotOpen(_("There is nothing to answer here."))
    note = _clean_note(note, APPEAL_LENGTH, _("Write a sentence or two first."))
    with transaction.atomic():
        appealable = Case.objects.appealable(seller).filter(appealed_at=None)
        case = appealable.first()
        # The UPDATE repeats the conditions: of two notes sent at once, one is stored.
        if case is None or not appealable.filter(pk=case.pk).update(appeal=note, appealed_at=timezone.now()):
            raise CaseNotOpen(_("There is nothing to answer here."))
        CaseEvent.objects.create(case=case, action=CaseEvent.Action.APPEALED, by_id=seller.pk, note=note)


def mail_new_cases() -> int:
    """Mail the staff who may judge cases about new open cases, once each; return how many cases."""
    return _send_case_mail(
        Case.objects.filter(state=Case.State.OPEN),
        "notified_at",
        lambda count: ngettext("Aisle: %(count)d new fraud case", "Aisle: %(count)d new fraud cases", count),
        _(
            "The answers of these sellers look intentional rather than mistaken:\n\n%(named)s\n\n"
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
            "Aisle: %(count)d seller appealed a fraud case", "Aisle: %(count)d sellers appealed fraud cases", count
        ),
        _(
            "These sellers appealed their confirmed fraud case:\n\n%(named)s\n\n"
            "Please read their notes in the admin, under Fraud cases, and clear each case or keep it confirmed."
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


def _decide(case: Case, decidable: CaseQuerySet, state: Case.State, by: "AbstractBaseUser", reason: str) -> None:
    reason = _clean_note(reason, REASON_LENGTH, _("Say why, in a sentence or two."))
    with transaction.atomic():
        # Detection locks the seller's account, too, before it opens a case: otherwise it could open a new case from
        # evidence that is being cleared here.
        accounts = get_user_model()._default_manager.select_for_update(no_key=True)
        accounts.filter(pk=case.seller_id).values_list("pk").first()
        # The UPDATE repeats the condition on the state: of two verdicts at once, one counts.
        updated = decidable.filter(pk=case.pk).update(
            state=state, decided_by=by, decided_at=timezone.now(), reason=reason
        )
        if not updated:
            raise CaseNotOpen(_("This case was decided in the meantime. Please look at it again."))
        CaseEvent.objects.create(case=case, action=CaseEvent.Action(state.value), by_id=by.pk, note=reason)


def _clean_note(text: str, limit: int, missing: str) -> str:
    """Return the cleaned text. Raises ValidationError for a missing one, with the message `missing`, or a long one."""
    text = clean_lines(text)
    if not text:
        raise ValidationError(missing)
    if len(text) > limit:
        raise ValidationError(
            _("This has %(length)d characters; the limit is %(limit)d. Please shorten it.")
            % {"length": len(text), "limit": limit}
        )
    return text
