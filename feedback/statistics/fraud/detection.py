"""Decide which sellers are flagged for fraud, with control of the false discovery rate."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from feedback.statistics.fraud.answer_log import CHOSEN, PREDICTED, AnswerLog, Floats, SellerTotals
from feedback.statistics.fraud.evidence import FavouredCategories, SurprisingAnswers

MINIMUM_EVIDENCE = 4  # surprising answers in the favoured category
MINIMUM_PEERS = 10
MINIMUM_POSTERIOR = 0.99
FALSE_DISCOVERY_RATE = 0.05
PRIOR_STRENGTH_RANGE = (5.0, 500.0)  # M: trials that the prior of a seller's rate may be worth
CONCENTRATED = 0.5

# Reasons, as stored in cases.
ABOVE_PEERS = "rate_above_peers"
ONE_CATEGORY = "one_favoured_category"
SCATTERED = "scattered"
ALONE = "no_other_flagged_seller_favours_it"
GROUP = "other_flagged_sellers_favour_it"


@dataclass(frozen=True)
class SellerFinding:
    """The figures of one seller. The field names are keys of the figures that cases store.

    Counts: `products`, all answers; `disagreements`, where seller and ensemble differ; `sure`, confident answers;
    `surprising`, confident answers in a category that neither models nor peers would have chosen. The `favourite` is
    the category with the strongest evidence: `evidence` surprising answers, of `chances` confident products that were
    predicted to be in another category. `rate` is evidence / chances and `shrunk_rate` its posterior mean;
    `peers_rate` is the rate of peers with the same products, `allowed_rate` the largest that counts as honest,
    `posterior` P(rate > allowed rate). `concentration` is evidence / surprising. `log_evidence` is the natural
    logarithm of the seller's e-value, and `q` the smallest false discovery rate at which the seller is discovered.
    """

    seller: int
    products: int
    disagreements: int
    sure: int
    surprising: int
    favourite: int | None = None
    chances: int = 0
    evidence: int = 0
    rate: float = 0.0
    shrunk_rate: float = 0.0
    peers_rate: float = 0.0
    allowed_rate: float = 0.0
    posterior: float = 0.0
    concentration: float = 0.0
    log_evidence: float = -np.inf
    q: float = 1.0
    flagged: bool = False
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class FraudFindings:
    """The findings of all sellers, the most suspicious first.

    `usual_surprisal` is in nats, by version, confidence band and predicted category.
    """

    findings: list[SellerFinding]
    usual_surprisal: dict[tuple[int, int, int], float]

    @cached_property
    def flagged(self) -> list[int]:
        return [finding.seller for finding in self.findings if finding.flagged]

    def surprisal_of_context(self, log: AnswerLog) -> Floats:
        """Return the usual surprisal (n,) in the context of each answer; 0 for a context without answers."""
        contexts = zip(log.version.tolist(), log.confidence_band().tolist(), log.predicted.tolist(), strict=True)
        return np.array([self.usual_surprisal.get(context, 0.0) for context in contexts], np.float64)

    def strongest_evidence(self, log: AnswerLog, finding: SellerFinding, most: int = 20) -> list[int]:
        """Return the rows of a log that are the strongest evidence against a seller.

        These are confident answers that differ from the prediction: first those in the favoured category, and among
        them those first that exceed the usual surprisal by most.
        """
        is_evidence = (log.confidence_band() > 0) & (log.chosen != log.predicted)
        rows = np.flatnonzero((log.seller == finding.seller) & is_evidence)
        answers = log.select(rows)
        excess = answers.surprisal() - self.surprisal_of_context(answers)
        favourite = -1 if finding.favourite is None else finding.favourite
        order = np.lexsort((-excess, answers.chosen != favourite))
        found: list[int] = rows[order][:most].tolist()
        return found


def assess_sellers(totals: SellerTotals, categories: int) -> FraudFindings:
    """Return the findings of every seller; categories are numbered from 0 to `categories` - 1.

    May be called as often as wished: the evidence is an e-process, which repeated looks do not inflate. Raises
    ValueError for a category outside the numbers.
    """
    named = totals.keys[:, [PREDICTED, CHOSEN]]
    if named.size and not 0 <= named.min() <= named.max() < categories:
        raise ValueError(f"the totals name categories that are not among {categories}")
    answers = SurprisingAnswers(totals, categories)
    findings = _make_findings(answers, answers.favoured_categories())
    return FraudFindings(findings, answers.surprisal_by_context())


def estimate_prior_strength(events: Floats, trials: Floats) -> float:
    """Return how many trials the prior of a seller's rate is worth, by the moments of a beta-binomial (Kleinman 1973).

    Outliers are winsorised at three standard deviations, because the prior describes honest sellers.
    """
    mean = min(float(events.sum() / max(trials.sum(), 1.0)), 0.5)
    expected = trials * mean
    winsorised = np.minimum(events, expected + 3 * np.sqrt(expected) + 1)
    # The variance beyond the binomial one, and what it would be if all of a seller's answers were the same.
    excess_variance = float(((winsorised - expected) ** 2 - expected * (1 - mean)).sum())
    largest_excess = float((expected * (1 - mean) * np.maximum(trials - 1, 0)).sum())
    if excess_variance <= 0 or largest_excess <= 0:
        return PRIOR_STRENGTH_RANGE[1]
    return float(np.clip(largest_excess / excess_variance - 1, *PRIOR_STRENGTH_RANGE))


def e_values_to_q_values(log_e: Floats) -> Floats:
    """Return the smallest level (m,) at which e-BH discovers each of m hypotheses (Wang and Ramdas 2022).

    The level of rank k is m / (k * e), and each hypothesis has the smallest level from its own rank on, at most 1. The
    e-values may depend on each other.
    """
    order = np.argsort(-log_e)
    ranks = np.arange(1, len(log_e) + 1)
    with np.errstate(over="ignore"):
        levels = np.exp(np.log(max(len(log_e), 1)) - np.log(ranks) - log_e[order])
    q_values = np.empty(len(log_e))
    q_values[order] = np.minimum(np.minimum.accumulate(levels[::-1])[::-1], 1.0)
    return q_values


@dataclass(frozen=True)
class _Assessment:
    """The evidence of all sellers: columns by row of `favoured`, and columns by seller (`log_e`, `q`)."""

    favoured: FavouredCategories
    posterior: Floats
    shrunk_rate: Floats
    log_e: Floats
    q: Floats
    strongest: dict[int, int]  # by the seller's index, the row of the favoured category with the strongest evidence


def _make_findings(answers: SurprisingAnswers, favoured: FavouredCategories) -> list[SellerFinding]:
    products = answers.count_by_seller(np.ones(len(answers.count), bool))
    disagreements = answers.count_by_seller(answers.is_disagreement)
    confident = answers.count_by_seller(answers.is_confident)
    surprising = answers.count_by_seller(answers.is_surprising)
    assessment = _assess_evidence(answers, favoured, confident, surprising)
    flagged = _flag_sellers(assessment, peers=int((confident > 0).sum()) - 1)
    flagged_in_category = Counter(int(favoured.category[assessment.strongest[index]]) for index in flagged)
    findings = []
    for index, seller in enumerate(answers.sellers.tolist()):
        figures: dict[str, object] = {}
        if index in assessment.strongest:
            figures = _describe_evidence(assessment, index, surprising[index])
            if index in flagged:
                category = int(favoured.category[assessment.strongest[index]])
                is_group = flagged_in_category[category] > 1
                figures["flagged"] = True
                figures["reasons"] = _list_reasons(float(figures["concentration"]), is_group)  # type: ignore[arg-type]
        findings.append(
            SellerFinding(
                seller,
                products=int(products[index]),
                disagreements=int(disagreements[index]),
                sure=int(confident[index]),
                surprising=int(surprising[index]),
                **figures,  # type: ignore[arg-type]
            )
        )
    return sorted(findings, key=lambda finding: (-finding.log_evidence, -finding.posterior))


def _assess_evidence(
    answers: SurprisingAnswers, favoured: FavouredCategories, confident: Floats, surprising: Floats
) -> _Assessment:
    strength = estimate_prior_strength(surprising, confident)
    log_e = favoured.log_e_values()
    posterior = favoured.posterior_above_allowed(strength)
    # A seller's e-value is the mean over all categories that could be favoured, which pays for looking at each of them;
    # a category without surprising answers adds nothing.
    seller_log_e = np.full(len(answers.sellers), -np.inf)
    np.logaddexp.at(seller_log_e, favoured.seller, log_e - np.log(max(answers.categories - 1, 1)))
    # Sellers without a confident answer were not tested.
    is_tested = confident > 0
    q = np.ones(len(seller_log_e))
    q[is_tested] = e_values_to_q_values(seller_log_e[is_tested])
    # In order of evidence, so that the last row of a seller, which stays in the dict, is the strongest.
    order = np.lexsort((posterior, log_e))
    strongest = dict(zip(favoured.seller[order].tolist(), order.tolist(), strict=True))
    return _Assessment(favoured, posterior, favoured.shrunk_rates(strength), seller_log_e, q, strongest)


def _flag_sellers(assessment: _Assessment, peers: int) -> set[int]:
    """Return the indices of the sellers to flag."""
    if peers < MINIMUM_PEERS:
        return set()
    flagged = set()
    for index, row in assessment.strongest.items():
        is_frequent = assessment.favoured.events[row] >= MINIMUM_EVIDENCE
        is_certain = assessment.posterior[row] >= MINIMUM_POSTERIOR
        if is_frequent and is_certain and assessment.q[index] <= FALSE_DISCOVERY_RATE:
            flagged.add(index)
    return flagged


def _describe_evidence(assessment: _Assessment, index: int, surprising: float) -> dict[str, object]:
    """Return the figures of a seller's favoured category."""
    favoured, row = assessment.favoured, assessment.strongest[index]
    return {
        "favourite": int(favoured.category[row]),
        "chances": int(favoured.trials[row]),
        "evidence": int(favoured.events[row]),
        "rate": float(favoured.events[row] / favoured.trials[row]),
        "shrunk_rate": float(assessment.shrunk_rate[row]),
        "peers_rate": float(favoured.peer_rate[row]),
        "allowed_rate": float(favoured.allowed_rate[row]),
        "posterior": float(assessment.posterior[row]),
        "concentration": float(favoured.events[row] / surprising),
        "log_evidence": float(assessment.log_e[index]),
        "q": float(assessment.q[index]),
    }


def _list_reasons(concentration: float, is_group: bool) -> tuple[str, ...]:
    direction = ONE_CATEGORY if concentration >= CONCENTRATED else SCATTERED
    return ABOVE_PEERS, direction, GROUP if is_group else ALONE
