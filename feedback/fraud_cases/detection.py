"""Detect fraud among all sellers and open cases, with figures, timeline and products frozen as found."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.utils import timezone

from classifier.models import Prediction
from common.photos.copies import signed
from feedback.fraud_cases import answer_log
from feedback.fraud_cases.answer_log import AnswerRecord
from feedback.fraud_cases.seller_totals import StoredTotals, update_totals
from feedback.models.cases import Case, CaseEvent, CaseProduct
from feedback.statistics.duplicates import text_hash
from feedback.statistics.fraud import AnswerLog, FraudFindings, SellerFinding, assess_sellers
from feedback.statistics.fraud.evidence import SURPRISE_THRESHOLD

MAXIMUM_ANSWERS = 20_000  # of one seller, the newest
MAXIMUM_PRODUCTS = 24
TIMELINE_POINTS = 60


@dataclass(frozen=True)
class DetectionRun:
    """The result of one run over all sellers. `slugs` are the categories that the findings' numbers stand for."""

    findings: FraudFindings
    slugs: list[str]
    opened: list[Case]


def find_fraud(now: datetime | None = None) -> DetectionRun:
    """Update the totals, assess all sellers, and open a case for each flagged seller without one that stands.

    Safe to run at any time, and twice at once: a constraint allows one standing case for each seller.
    """
    stored = update_totals(now or timezone.now())
    findings = assess_sellers(stored.totals, len(stored.codes.categories))
    flagged = [finding for finding in findings.findings if finding.flagged]
    standing = Case.objects.standing().filter(seller__in=[finding.seller for finding in flagged])
    sellers_with_case = set(standing.values_list("seller", flat=True))
    opened = []
    for finding in flagged:
        if finding.seller not in sellers_with_case:
            case = _open_case(stored, findings, finding)
            if case is not None:
                opened.append(case)
    return DetectionRun(findings, stored.codes.categories, opened)


def _open_case(stored: StoredTotals, findings: FraudFindings, finding: SellerFinding) -> Case | None:
    """Open a case; None where another worker opened one, or a person decided an earlier one, in the meantime."""
    slugs = stored.codes.categories
    if finding.favourite is None:
        raise ValueError(f"seller {finding.seller} is flagged without a favoured category")
    favourite = slugs[finding.favourite]
    answers = _read_assessed_answers(stored, finding.seller)
    log = stored.codes.encode_answers(answers)
    products = _make_products(findings, finding, log, answers, slugs)
    try:
        with transaction.atomic():
            # A verdict locks the seller's account, too: a case that is cleared while this runs must not be opened again
            # from the same evidence.
            accounts = get_user_model()._default_manager.select_for_update(no_key=True).filter(pk=finding.seller)
            if not accounts.values_list("pk", flat=True).first():
                return None
            if Case.objects.filter(seller=finding.seller, decided_at__gt=stored.until).exists():
                return None
            case = Case.objects.create(
                seller_id=finding.seller,
                favourite=favourite,
                figures=asdict(finding) | {"favourite": favourite, "reasons": list(finding.reasons)},
                reasons=list(finding.reasons),
                timeline=_make_timeline(findings, finding, log),
            )
            for product in products:
                product.case = case
            CaseProduct.objects.bulk_create(products)
            CaseEvent.objects.create(case=case, action=CaseEvent.Action.OPENED)
    except IntegrityError:
        # Another worker opened a case for this seller first.
        return None
    return case


def _read_assessed_answers(stored: StoredTotals, seller: int) -> list[AnswerRecord]:
    """Return the seller's answers that the totals contain, the oldest first."""
    cleared_at = stored.cleared.get(seller, -np.inf)
    answers = []
    for history in answer_log.read_seller_answers(seller, most=MAXIMUM_ANSWERS):
        answer = history.as_of(stored.until.timestamp())
        if answer and answer.answered_at > cleared_at and answer.chosen and answer.predicted:
            answers.append(answer)
    return sorted(answers, key=lambda answer: answer.answered_at)


def _make_products(
    findings: FraudFindings, finding: SellerFinding, log: AnswerLog, answers: Sequence[AnswerRecord], slugs: list[str]
) -> list[CaseProduct]:
    """Return the products that are the strongest evidence; they are stored with the case."""
    rows = findings.strongest_evidence(log, finding, MAXIMUM_PRODUCTS)
    predictions = Prediction.objects.only("pk", "title", "description")
    texts = predictions.in_bulk([answers[row].prediction for row in rows])
    usual_surprisal = findings.surprisal_of_context(log)
    products = []
    for row in rows:
        answer = answers[row]
        prediction = texts.get(answer.prediction)
        if prediction is None:  # erased since it was read
            continue
        products.append(
            CaseProduct(
                prediction_id=answer.prediction,
                predicted=slugs[log.predicted[row]],
                chosen=slugs[log.chosen[row]],
                confidence=answer.confidence or 0.0,
                text=answer.text_probability,
                image=answer.image_probability,
                ensemble=answer.ensemble_probability,
                usual=float(np.exp(-usual_surprisal[row])),
                answered_at=datetime.fromtimestamp(answer.answered_at, UTC),
                text_hash=signed(text_hash(f"{prediction.title} {prediction.description}")) or None,
            )
        )
    return products


def _make_timeline(findings: FraudFindings, finding: SellerFinding, log: AnswerLog) -> list[list[float]]:
    """Return [seconds since 1970, surprising products so far, most that would be honest] at points of a chart."""
    is_trial = (log.confidence_band() > 0) & (log.predicted != finding.favourite)
    trials = log.select(is_trial)
    excess = trials.surprisal() - findings.surprisal_of_context(trials)
    is_event = (trials.chosen == finding.favourite) & (excess >= SURPRISE_THRESHOLD)
    events = np.cumsum(is_event)
    allowed = finding.allowed_rate * np.arange(1, len(trials) + 1)
    points = np.unique(np.linspace(0, len(trials) - 1, min(TIMELINE_POINTS, len(trials))).astype(int))
    timeline = []
    for row in points:
        timeline.append([float(trials.answered_at[row]), int(events[row]), round(float(allowed[row]), 2)])
    return timeline
