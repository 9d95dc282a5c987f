import io
import threading
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import numpy as np
import pytest
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from classifier.models import Category
from feedback.fraud_cases import seller_totals
from feedback.fraud_cases.detection import find_fraud
from feedback.fraud_cases.seller_totals import StoredTotals, pack_totals, unpack_totals, update_totals
from feedback.fraud_cases.services import (
    CaseNotOpen,
    appeal_case,
    clear_case,
    confirm_case,
    mail_appeals,
    mail_new_cases,
    uphold_case,
)
from feedback.models import Case, CaseEvent, Feedback, FraudTally
from feedback.services import record_feedback
from feedback.statistics.fraud.answer_log import SELLER
from feedback.tasks import find_fraud as find_fraud_task
from portal.models import User
from tests.support.fraud_answers import FAVOURITE, PRODUCTS, create_sellers, store_answers
from training.datasets.feedback_examples import absorb_feedback
from training.models import FEEDBACK, Example

pytestmark = pytest.mark.django_db


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def market(now: datetime) -> User:
    """Fourteen honest sellers and one who puts three of ten products into the favourite; returned."""
    before = now - timedelta(hours=1)
    store_answers(create_sellers(14), until=before)
    [liar] = create_sellers(1, "liar")
    store_answers([liar], lies=0.3, until=before, seed=2, review="accepted")
    return liar


def totals_by_name(known: StoredTotals) -> dict[tuple[Any, ...], tuple[int, float]]:
    """Return the totals by slugs and versions, because the numbers of categories depend on the order of answers."""
    slugs, versions = known.codes.categories, known.codes.versions
    return {
        (seller, versions[version], band, slugs[predicted], slugs[chosen], level): (count, round(surprise, 6))
        for (seller, version, band, predicted, chosen, level), count, surprise in zip(
            known.totals.keys.tolist(), known.totals.count.tolist(), known.totals.surprisal.tolist(), strict=True
        )
    }


def totals_at_once(now: datetime) -> StoredTotals:
    FraudTally.objects.all().delete()
    return update_totals(now)


def test_an_empty_database_has_no_cases(now: datetime) -> None:
    found = find_fraud(now)
    assert (found.findings.findings, found.opened) == ([], [])
    out = io.StringIO()
    call_command("find_fraud", stdout=out)
    assert out.getvalue() == "0 sellers assessed, 0 flagged, 0 cases opened.\n"


def test_a_liar_among_honest_sellers_gets_one_case(market: User, now: datetime) -> None:
    found = find_fraud(now)
    [case] = found.opened
    assert (case.seller, case.state, case.favourite) == (market, "open", FAVOURITE)
    assert case.figures["evidence"] == round(0.3 * PRODUCTS) and case.figures["favourite"] == FAVOURITE
    assert case.figures["posterior"] >= 0.99 and case.figures["q"] <= 0.05
    products = list(case.products.all())
    assert len(products) == case.figures["evidence"] and {row.chosen for row in products} == {FAVOURITE}
    assert all(row.text is not None and row.text < 0.01 < 0.9 < row.usual for row in products)
    assert case.timeline[-1][1] == case.figures["evidence"] > case.timeline[-1][2]
    assert [point[0] for point in case.timeline] == sorted(point[0] for point in case.timeline)
    assert [event.action for event in case.events.all()] == ["opened"]
    # Looking again, and with the case confirmed, opens no other.
    assert find_fraud(now + timedelta(hours=1)).opened == []
    confirm_case(case=case, by=market, reason="Looked at it.")
    assert find_fraud(now + timedelta(hours=2)).opened == []
    assert Case.objects.count() == 1


def test_updating_step_by_step_gives_the_same_totals_as_at_once(market: User, now: datetime) -> None:
    for days in (30, 12, 11.5, 3, 0):
        known = update_totals(now - timedelta(days=days))
    revision = FraudTally.objects.get().revision
    assert (
        totals_by_name(update_totals(now)) == totals_by_name(known) and int(known.totals.count.sum()) == 15 * PRODUCTS
    )
    assert FraudTally.objects.get().revision == revision + 1
    with mock.patch.object(seller_totals, "BATCH_SIZE", 7):
        assert totals_by_name(totals_at_once(now)) == totals_by_name(known)
    assert np.array_equal(unpack_totals(pack_totals(known.totals)).keys, known.totals.keys)


@pytest.mark.parametrize("other", [FAVOURITE, "beauty", None])
def test_a_changed_answer_replaces_the_old_one_in_the_totals(market: User, now: datetime, other: str | None) -> None:
    update_totals(now)
    category = Category.objects.get(slug=other) if other else None
    for feedback in Feedback.objects.filter(seller=market).select_related("prediction")[:9]:
        record_feedback(prediction=feedback.prediction, category=category)
    assert Feedback.objects.exclude(earlier=[]).exists()
    # Not settled yet: the old answers still stand.
    assert totals_by_name(update_totals(now + timedelta(minutes=1))) == totals_by_name(totals_at_once(now))
    later = now + timedelta(hours=1)
    known = update_totals(later)
    assert totals_by_name(known) == totals_by_name(totals_at_once(later))
    assert int(known.totals.count.sum()) == 15 * PRODUCTS - (0 if other else 9)


def test_of_two_workers_that_update_at_once_one_counts(market: User, now: datetime) -> None:
    before = StoredTotals.load()
    known = update_totals(now)
    assert not before.save()
    assert totals_by_name(StoredTotals.load()) == totals_by_name(known)


def test_after_clearing_only_new_evidence_opens_another_case(market: User, scientist: User, now: datetime) -> None:
    [case] = find_fraud(now).opened
    clear_case(case=case, by=scientist, reason="Guitar cases belong there.")
    later = timezone.now() + timedelta(hours=2)
    found = find_fraud(later)
    assert found.opened == [] and market.pk not in {finding.seller for finding in found.findings.findings}
    assert totals_by_name(StoredTotals.load()) == totals_by_name(totals_at_once(later))
    store_answers([market], lies=0.3, until=later + timedelta(days=10), days=9, seed=5)
    [again] = find_fraud(later + timedelta(days=11)).opened
    assert again.seller == market and again.pk != case.pk
    assert {product.answered_at > case.opened_at for product in again.products.all()} == {True}


def test_a_case_cleared_during_detection_is_not_opened_again(market: User, scientist: User, now: datetime) -> None:
    [case] = find_fraud(now).opened
    stale = update_totals(now)
    clear_case(case=case, by=scientist, reason="Nothing wrong.")
    with mock.patch("feedback.fraud_cases.detection.update_totals", return_value=stale):
        assert find_fraud(now).opened == []
    assert Case.objects.count() == 1


def test_a_standing_case_keeps_labels_out_of_training_until_it_is_cleared(
    market: User, scientist: User, now: datetime
) -> None:
    assert Feedback.objects.trusted().filter(seller=market).count() == PRODUCTS
    assert "feedback_fraud_case" not in absorb_feedback()
    learnt = Example.objects.filter(source=FEEDBACK)
    before = learnt.count()
    assert before
    [case] = find_fraud(now).opened
    for state in ("open", "confirmed"):
        assert not Feedback.objects.trusted().filter(seller=market).exists()
        assert absorb_feedback()["feedback_fraud_case"] == PRODUCTS
        assert not learnt.exists()
        if state == "open":
            confirm_case(case=case, by=scientist, reason="On purpose.")
    market.refresh_from_db()
    assert market.is_active
    clear_case(case=case, by=scientist, reason="The appeal convinced me.")
    assert Feedback.objects.trusted().filter(seller=market).count() == PRODUCTS
    absorb_feedback()
    assert learnt.count() == before


def test_a_decision_needs_a_reason_and_counts_once(market: User, scientist: User, now: datetime) -> None:
    [case] = find_fraud(now).opened
    for reason in ("", " \n ", "x" * 3000):
        with pytest.raises(ValidationError):
            confirm_case(case=case, by=scientist, reason=reason)
    confirm_case(case=case, by=scientist, reason="On purpose.")
    with pytest.raises(CaseNotOpen):
        confirm_case(case=case, by=scientist, reason="Again.")
    clear_case(case=case, by=scientist, reason="No: a mistake of mine.")
    for decide in (confirm_case, clear_case):
        with pytest.raises(CaseNotOpen):
            decide(case=case, by=scientist, reason="Again.")
    case.refresh_from_db()
    assert (case.state, case.decided_by, case.reason) == ("cleared", scientist, "No: a mistake of mine.")
    assert [event.action for event in case.events.all()] == ["opened", "confirmed", "cleared"]
    assert case.events.all()[1].note == "On purpose." and case.events.all()[1].by == scientist


def test_two_people_deciding_at_once_leave_one_verdict(committed_db: None, scientist: User, seller: User) -> None:
    case = Case.objects.create(seller=seller, favourite=FAVOURITE, figures={})
    refused = []

    def decide() -> None:
        try:
            confirm_case(case=Case.objects.get(pk=case.pk), by=scientist, reason="On purpose.")
        except CaseNotOpen as error:
            refused.append(error)
        finally:
            connection.close()

    people = [threading.Thread(target=decide) for _number in range(4)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert len(refused) == 3
    assert CaseEvent.objects.filter(action="confirmed").count() == 1


def test_the_task_mails_those_who_judge_once(market: User, scientist: User, seller: User, now: datetime) -> None:
    find_fraud_task()
    [message] = mail.outbox
    assert message.to == [scientist.email] and market.email in message.body and "Nothing is blocked" in message.body
    find_fraud_task()
    assert len(mail.outbox) == 1 and mail_new_cases() == 0


def test_a_mail_that_could_not_be_sent_is_sent_again(market: User, scientist: User, now: datetime) -> None:
    find_fraud(now)
    with mock.patch("feedback.notifications.send_mail", side_effect=ConnectionRefusedError):
        assert mail_new_cases() == 0
    assert mail_new_cases() == 1
    assert [message.to for message in mail.outbox] == [[scientist.email]]


def test_a_confirmed_case_takes_one_appeal(market: User, scientist: User, now: datetime, settings: Any) -> None:
    [case] = find_fraud(now).opened
    with pytest.raises(CaseNotOpen):
        appeal_case(seller=market, note="It isn't confirmed yet.")
    confirm_case(case=case, by=scientist, reason="On purpose.")
    settings.FRAUD_APPEALS = False
    with pytest.raises(CaseNotOpen):
        appeal_case(seller=market, note="They are guitars.")
    settings.FRAUD_APPEALS = True
    appeal_case(seller=market, note="They are guitars.")
    with pytest.raises(CaseNotOpen):
        appeal_case(seller=market, note="Really.")
    case.refresh_from_db()
    assert case.appeal == "They are guitars." and case.appealed_at
    assert [event.action for event in case.events.all()] == ["opened", "confirmed", "appealed"]
    assert case.is_appealed and mail_appeals() == 1 and mail_appeals() == 0
    assert mail.outbox[-1].to == [scientist.email] and market.email in mail.outbox[-1].body
    with pytest.raises(CaseNotOpen):  # from a page that was opened before the note was there
        confirm_case(case=case, by=scientist, reason="On purpose.")
    uphold_case(case=case, by=scientist, reason="They are no guitars.")
    case.refresh_from_db()
    assert not case.is_appealed and not Case.objects.appealed().exists() and case.state == "confirmed"
    with pytest.raises(CaseNotOpen):
        uphold_case(case=case, by=scientist, reason="Once more.")


def test_a_deleted_seller_leaves_the_totals(market: User, now: datetime) -> None:
    assert market.pk in update_totals(now).totals.keys[:, SELLER]
    market.delete()
    known = update_totals(now)
    assert market.pk not in known.totals.keys[:, SELLER] and len(known.totals.keys)
    assert find_fraud(now).opened == []


def test_the_command_prints_suspicious_sellers(market: User, now: datetime) -> None:
    out = io.StringIO()
    call_command("find_fraud", stdout=out)
    head, row, *_rest, last = out.getvalue().splitlines()
    assert head.startswith("seller") and market.email in row and "12 of 40" in row and row.endswith("open")
    assert last == "15 sellers assessed, 1 flagged, 1 cases opened."
