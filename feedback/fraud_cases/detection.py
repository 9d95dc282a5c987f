"""Who is flagged, and the case that is opened then: figures, timeline and products, frozen as found."""

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

MAXIMUM_ANSWERS = 20_000  # answers of one seller, the newest
MAXIMUM_PRODUCTS = 24
TIMELINE_POINTS = 60


@dataclass(frozen=True)
class DetectionRun:
    """What a look at all sellers brought. `slugs`: the categories that the findings' numbers mean."""

    judgement: FraudFindings
    slugs: list[str]
    opened: list[Case]


def find_fraud(now: datetime | None = None) -> DetectionRun:
    """Fold what is new, judge everybody, and open a case for each flagged seller who has none that stands.

    Safe to run at any time and twice at once: a seller has one standing case at most.
    """
    now = now or timezone.now()
    known = update_totals(now)
    judgement = assess_sellers(known.tally, len(known.numbers.categories))
    flagged = [finding for finding in judgement.findings if finding.flagged]
    sellers = [finding.seller for finding in flagged]
    under = set(Case.objects.standing().filter(seller__in=sellers).values_list("seller", flat=True))
    opened = [
        case
        for finding in flagged
        if finding.seller not in under and (case := _open(known, judgement, finding)) is not None
    ]
    return DetectionRun(judgement, known.numbers.categories, opened)


def _open(known: StoredTotals, judgement: FraudFindings, finding: SellerFinding) -> Case | None:
    """Open a case; None where it was opened, or an earlier one decided, by somebody else meanwhile."""
    answers = _answers(known, finding.seller)
    log = known.numbers.log(answers)
    slugs = known.numbers.categories
    assert finding.favourite is not None  # noqa: S101 - nobody is flagged without one
    figures = asdict(finding) | {"favourite": slugs[finding.favourite], "reasons": list(finding.reasons)}
    products = _products(judgement, finding, log, answers, slugs)
    try:
        with transaction.atomic():
            # The account's row is the lock that a clearing takes too: its evidence must not open a case anew.
            people = get_user_model()._default_manager.select_for_update(no_key=True).filter(pk=finding.seller)
            if not people.values_list("pk", flat=True).first():
                return None
            if Case.objects.filter(seller=finding.seller, decided_at__gt=known.until).exists():
                return None
            case = Case.objects.create(
                seller_id=finding.seller,
                favourite=slugs[finding.favourite],
                figures=figures,
                reasons=list(finding.reasons),
                timeline=_timeline(judgement, finding, log),
            )
            for product in products:
                product.case = case
            CaseProduct.objects.bulk_create(products)
            CaseEvent.objects.create(case=case, action=CaseEvent.Action.OPENED)
    except IntegrityError:
        return None
    return case


def _answers(known: StoredTotals, seller: int) -> list[AnswerRecord]:
    """Return the seller's answers that are in the sums, the oldest first."""
    since = known.cleared.get(seller, -np.inf)
    histories = answer_log.read_seller_answers(seller, most=MAXIMUM_ANSWERS)
    stood = [history.as_of(known.until.timestamp()) for history in histories]
    found = [said for said in stood if said and said.at > since and said.chosen and said.predicted]
    return sorted(found, key=lambda said: said.at)


def _products(
    judgement: FraudFindings, finding: SellerFinding, log: AnswerLog, answers: Sequence[AnswerRecord], slugs: list[str]
) -> list[CaseProduct]:
    rows = judgement.telling(log, finding, MAXIMUM_PRODUCTS)
    predictions = Prediction.objects.only("pk", "title", "description")
    texts = predictions.in_bulk([answers[row].prediction for row in rows])
    products = []
    for row in rows:
        said = answers[row]
        prediction = texts.get(said.prediction)
        if prediction is None:  # erased meanwhile
            continue
        usual = judgement.usual_surprise.get((int(log.version[row]), int(log.band()[row]), int(log.predicted[row])), 0)
        products.append(
            CaseProduct(
                prediction_id=said.prediction,
                predicted=slugs[log.predicted[row]],
                chosen=slugs[log.chosen[row]],
                confidence=said.confidence or 0.0,
                text=said.given[0],
                image=said.given[1],
                ensemble=said.given[2],
                usual=float(np.exp(-usual)),
                answered_at=datetime.fromtimestamp(said.at, UTC),
                text_hash=signed(text_hash(f"{prediction.title} {prediction.description}")) or None,
            )
        )
    return products


def _timeline(judgement: FraudFindings, finding: SellerFinding, log: AnswerLog) -> list[list[float]]:
    """Return [seconds since 1970, products that speak against the seller until then, most that would be honest]."""
    band = log.band()
    rows = np.flatnonzero((band > 0) & (log.predicted != finding.favourite))
    contexts = zip(log.version[rows].tolist(), band[rows].tolist(), log.predicted[rows].tolist(), strict=True)
    usual = np.array([judgement.usual_surprise.get(context, 0.0) for context in contexts])
    theirs = log.where(rows)
    struck = (theirs.chosen == finding.favourite) & (theirs.surprise() - usual >= SURPRISE_THRESHOLD)
    against, allowed = np.cumsum(struck), finding.allowed_rate * np.arange(1, len(rows) + 1)
    shown = np.unique(np.linspace(0, len(rows) - 1, min(TIMELINE_POINTS, len(rows))).astype(int))
    return [[float(theirs.answered_at[row]), int(against[row]), round(float(allowed[row]), 2)] for row in shown]
