import threading

import pytest
from django.contrib.admin.models import LogEntry
from django.db import IntegrityError, connection
from django.utils import timezone

from classifier.models import Category
from feedback.models import Feedback, Review
from feedback.review import decisions
from feedback.review.decisions import StaleReview, record_review, review_feedback, undo_review
from feedback.services import record_feedback
from portal.models import User
from tests.support.accounts import make_user
from tests.support.experiments import an_hour_ago, live_counts
from tests.support.reviews import store_answer
from training.datasets.feedback_examples import absorb_feedback
from training.models import FEEDBACK, Example

Verdict = Review.Verdict


@pytest.fixture
def slugs(db: None) -> list[str]:
    return list(Category.objects.values_list("slug", flat=True))


@pytest.fixture
def feedback(seller: User, slugs: list[str]) -> Feedback:
    return store_answer(seller, slugs[0], text=(slugs[1], 0.7))


@pytest.fixture
def second(db: None) -> User:
    from portal.accounts.roles import Role

    return make_user("second@shop.example", Role.DATA_SCIENTIST)


def everybody_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "SECOND_SHARE", 1.0)


def nobody_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "SECOND_SHARE", 0.0)


def category(slug: str) -> Category:
    return Category.objects.get(slug=slug)


def test_a_correction_is_what_models_learn_and_leaves_the_sellers_words(
    feedback: Feedback, scientist: User, slugs: list[str]
) -> None:
    review = record_review(feedback=feedback, verdict=Verdict.CORRECT, category=category(slugs[2]), reviewer=scientist)
    feedback.refresh_from_db()
    assert (feedback.review, feedback.reviewed_by, feedback.reviewed_at) == ("corrected", scientist, review.created_at)
    assert feedback.category == category(slugs[0]) and feedback.correction == category(slugs[2])
    assert [row.final for row in Feedback.objects.trusted()] == [category(slugs[2])]
    assert review.answer["category"] == slugs[0]
    absorb_feedback()
    assert Example.objects.get(source=FEEDBACK).category == category(slugs[2])
    undo_review(review=review, reviewer=scientist)
    absorb_feedback()
    assert not Example.objects.filter(source=FEEDBACK).exists()


def test_a_correction_of_none_of_these_is_trusted(seller: User, scientist: User, slugs: list[str]) -> None:
    none = store_answer(seller, None, text=(slugs[1], 0.4))
    record_review(feedback=none, verdict=Verdict.ACCEPT, reviewer=scientist)
    assert not Feedback.objects.trusted().exists()
    none.refresh_from_db()
    record_review(feedback=none, verdict=Verdict.CORRECT, category=category(slugs[3]), reviewer=scientist)
    assert Feedback.objects.trusted().get().correction == category(slugs[3])


def test_a_correction_to_the_sellers_own_category_is_an_acceptance(
    feedback: Feedback, scientist: User, slugs: list[str]
) -> None:
    review = record_review(feedback=feedback, verdict=Verdict.CORRECT, category=category(slugs[0]), reviewer=scientist)
    feedback.refresh_from_db()
    assert (review.verdict, review.category, feedback.review) == ("accept", None, "accepted")


def test_undo_puts_what_was_in_force_before_in_force_again(
    feedback: Feedback, scientist: User, second: User, slugs: list[str]
) -> None:
    first = record_review(feedback=feedback, verdict=Verdict.REJECT, reviewer=scientist)
    feedback.refresh_from_db()
    later = record_review(feedback=feedback, verdict=Verdict.CORRECT, category=category(slugs[2]), reviewer=second)
    assert not undo_review(review=later, reviewer=scientist)  # it isn't theirs
    assert undo_review(review=later, reviewer=second) and not undo_review(review=later, reviewer=second)
    feedback.refresh_from_db()
    assert (feedback.review, feedback.correction, feedback.reviewed_by) == ("rejected", None, scientist)
    assert undo_review(review=first, reviewer=scientist)
    feedback.refresh_from_db()
    assert (feedback.review, feedback.reviewed_by, feedback.reviewed_at) == ("open", None, None)
    assert Review.objects.count() == 2 and not Review.objects.standing().exists()


def test_undoing_an_older_decision_leaves_the_newer_one(feedback: Feedback, scientist: User, second: User) -> None:
    first = record_review(feedback=feedback, verdict=Verdict.REJECT, reviewer=scientist)
    feedback.refresh_from_db()
    record_review(feedback=feedback, verdict=Verdict.ACCEPT, reviewer=second)
    undo_review(review=first, reviewer=scientist)
    feedback.refresh_from_db()
    assert (feedback.review, feedback.reviewed_by) == ("accepted", second)


def test_an_answer_that_changes_reopens_and_its_old_decision_cannot_come_back(
    feedback: Feedback, scientist: User, slugs: list[str]
) -> None:
    Feedback.objects.filter(pk=feedback.pk).update(worth=0.5, reason="doubt")
    review = record_review(feedback=feedback, verdict=Verdict.CORRECT, category=category(slugs[2]), reviewer=scientist)
    record_feedback(prediction=feedback.prediction, category=category(slugs[3]))
    changed = Feedback.objects.get()
    assert (changed.review, changed.correction, changed.worth, changed.reason) == ("open", None, None, "")
    with pytest.raises(StaleReview):
        record_review(feedback=feedback, verdict=Verdict.ACCEPT, reviewer=scientist)  # as the old page showed it
    undo_review(review=review, reviewer=scientist)
    assert Feedback.objects.get().review == "open"
    kept = Review.objects.get()
    assert kept.answer["category"] == slugs[0] and kept.undone_at


def test_two_reviewers_at_once_leave_one_decision(
    committed_db: None, feedback: Feedback, scientist: User, second: User
) -> None:
    stale = []

    def decide(reviewer: User) -> None:
        try:
            record_review(feedback=Feedback(pk=feedback.pk, answered_at=feedback.answered_at), verdict=Verdict.ACCEPT,
                  reviewer=reviewer)  # fmt: skip
        except StaleReview:
            stale.append(reviewer)
        connection.close()

    threads = [threading.Thread(target=decide, args=[reviewer]) for reviewer in (scientist, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stale) == 1 and Review.objects.count() == 1


def test_bulk_actions_keep_rows_and_a_log(feedback: Feedback, seller: User, scientist: User, slugs: list[str]) -> None:
    other = store_answer(seller, slugs[1], text=(slugs[1], 0.9))
    record_review(feedback=feedback, verdict=Verdict.CORRECT, category=category(slugs[2]), reviewer=scientist)
    ids = [feedback.pk, other.pk]
    assert review_feedback(ids=ids, review=Feedback.Review.FLAGGED, reviewer=scientist) == 2
    assert review_feedback(ids=ids, review=Feedback.Review.FLAGGED, reviewer=scientist) == 0
    feedback.refresh_from_db()
    assert (feedback.review, feedback.correction) == ("flagged", None)
    assert Review.objects.filter(verdict="flag").count() == 2
    assert LogEntry.objects.filter(user=scientist).count() == 3
    assert {entry.object_id for entry in LogEntry.objects.all()} == {str(pk) for pk in ids}


def test_a_second_opinion_is_blind_by_another_and_says_of_what(
    feedback: Feedback, scientist: User, second: User, slugs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody_twice(monkeypatch)
    first = record_review(feedback=feedback, verdict=Verdict.ACCEPT, reviewer=scientist)
    feedback.refresh_from_db()
    assert feedback.second_wanted
    opinion = record_review(
        feedback=feedback, verdict=Verdict.CORRECT, category=category(slugs[2]), reviewer=second, is_blind=True
    )
    feedback.refresh_from_db()
    assert opinion.first == first and not feedback.second_wanted and feedback.correction == category(slugs[2])
    assert [(pair.first.label, pair.label) for pair in Review.objects.second_opinions() if pair.first] == [
        (slugs[0], slugs[2])
    ]
    undo_review(review=opinion, reviewer=second)
    feedback.refresh_from_db()
    assert feedback.second_wanted and feedback.review == "accepted" and not Review.objects.second_opinions().exists()


def test_the_database_refuses_a_correction_without_a_category(feedback: Feedback) -> None:
    with pytest.raises(IntegrityError):
        Feedback.objects.filter(pk=feedback.pk).update(review="corrected")


def test_versions_are_measured_by_the_corrected_category(seller: User, scientist: User, slugs: list[str]) -> None:
    wrong = store_answer(seller, slugs[0], text=(slugs[1], 0.7))
    record_review(feedback=wrong, verdict=Verdict.CORRECT, category=category(slugs[1]), reviewer=scientist)
    (tally,) = live_counts(an_hour_ago()).values()
    assert (tally.right, tally.reviewed) == (1, 1)
    assert tally.answers == 0  # the seller's own choice was wrong


def test_a_bulk_action_from_an_old_list_overrules_nobody(
    feedback: Feedback, scientist: User, second: User, slugs: list[str]
) -> None:
    seen = timezone.now()
    record_review(feedback=feedback, verdict=Verdict.CORRECT, category=category(slugs[2]), reviewer=second)
    review = Feedback.Review.ACCEPTED
    assert review_feedback(ids=[feedback.pk], review=review, reviewer=scientist, seen=seen) == 0
    feedback.refresh_from_db()
    assert feedback.review == "corrected"
    assert review_feedback(ids=[feedback.pk], review=review, reviewer=scientist) == 1


def test_a_reviewer_finds_that_nothing_fits_what_the_seller_placed(
    seller: User, scientist: User, slugs: list[str]
) -> None:
    misplaced = store_answer(seller, slugs[1], text=(slugs[1], 0.9))
    review = record_review(feedback=misplaced, verdict=Verdict.NONE, reviewer=scientist)
    misplaced.refresh_from_db()
    assert (misplaced.review, misplaced.final, review.label) == ("homeless", None, "none")
    assert list(Feedback.objects.without_category()) == [misplaced] and not Feedback.objects.trusted().exists()
    (tally,) = live_counts(an_hour_ago()).values()
    assert (tally.right, tally.reviewed, tally.answers) == (0, 1, 0)
    undo_review(review=review, reviewer=scientist)
    assert not Feedback.objects.without_category().exists()
    nowhere = store_answer(seller, None, text=(slugs[1], 0.9))
    assert record_review(feedback=nowhere, verdict=Verdict.NONE, reviewer=scientist).verdict == "accept"


def test_that_nothing_fits_counts_as_wrong(seller: User, scientist: User, slugs: list[str]) -> None:
    homeless = store_answer(seller, None, text=(slugs[1], 0.9))
    record_review(feedback=homeless, verdict=Verdict.ACCEPT, reviewer=scientist)
    (tally,) = live_counts(an_hour_ago()).values()
    assert (tally.right, tally.reviewed) == (0, 1)
