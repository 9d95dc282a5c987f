"""Sellers whose choices look like intent rather than error: pure functions over a tally of answers.

The method, its formulas and their sources are told in docs/monitoring.md.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from feedback.statistics.fraud.answer_log import CHOSEN, PREDICTED, AnswerLog, Floats, SellerTotals
from feedback.statistics.fraud.evidence import SellerDirections, SurprisingAnswers

MINIMUM_EVIDENCE = 4
MINIMUM_PEERS = 10
MINIMUM_POSTERIOR = 0.99
FALSE_DISCOVERY_RATE = 0.05
PRIOR_STRENGTH_RANGE = (5.0, 500.0)  # products that the prior of a seller's rate may be worth
CONCENTRATED = 0.5

ABOVE_PEERS = "rate_above_peers"
ONE_CATEGORY = "one_favoured_category"
SCATTERED = "scattered"
ALONE = "no_other_flagged_seller_favours_it"
GROUP = "other_flagged_sellers_favour_it"


@dataclass(frozen=True)
class SellerFinding:
    """What is known of one seller: the figures of a case page.

    `products`: all that were answered. `sure`: those on which both models agreed and were confident. `surprising`:
    those of them that went where neither models nor peers would have put them, and `evidence`: to the `favourite`
    category, of `chances` (predicted to be in another). `rate` is evidence / chances, `shrunk_rate` its posterior mean,
    `peers_rate` what peers would have with the same products, `allowed_rate` the most that counts as honest,
    `posterior` P(rate > allowed rate). `concentration`: evidence / surprising. `log_evidence`: the natural logarithm of
    the e-value. `q`: the smallest false discovery rate at which the seller is among the discoveries.
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
    """`findings`: of every seller in the tally, the most suspicious first.

    `usual_surprise`: nats by version, confidence band and predicted category.
    """

    findings: list[SellerFinding]
    usual_surprise: dict[tuple[int, int, int], float]

    @cached_property
    def flagged(self) -> list[int]:
        return [finding.seller for finding in self.findings if finding.flagged]

    def telling(self, log: AnswerLog, finding: SellerFinding, most: int = 20) -> list[int]:
        """Return the rows of a log that speak most against a seller.

        Sure products that went elsewhere than predicted: first those in the favourite category, and among them those
        first that surprise most beyond what is usual in their place.
        """
        rows = np.flatnonzero((log.seller == finding.seller) & (log.band() > 0) & (log.chosen != log.predicted))
        theirs = log.where(rows)
        contexts = zip(theirs.version.tolist(), theirs.band().tolist(), theirs.predicted.tolist(), strict=True)
        excess = theirs.surprise() - np.array([self.usual_surprise.get(context, 0.0) for context in contexts])
        elsewhere = theirs.chosen != (-1 if finding.favourite is None else finding.favourite)
        order = np.lexsort((-excess, elsewhere))
        found: list[int] = rows[order][:most].tolist()
        return found


def assess_sellers(tally: SellerTotals, categories: int) -> FraudFindings:
    """Return what a tally says of each seller; categories are numbered from 0 to `categories` - 1.

    May be asked as often as wished: the evidence is an e-process, which looking again doesn't inflate. Raises
    ValueError for a category outside the numbers.
    """
    named = tally.keys[:, [PREDICTED, CHOSEN]]
    if named.size and not 0 <= named.min() <= named.max() < categories:
        raise ValueError(f"the tally names categories that are not among {categories}")
    evidence = SurprisingAnswers(tally, categories)
    return FraudFindings(_findings(evidence, evidence.directions()), evidence.contexts())


def estimate_prior_strength(events: Floats, chances: Floats) -> float:
    """Return how many products the prior of a seller's rate is worth: the moments of a beta-binomial (Kleinman 1973).

    Outliers are drawn in to three standard deviations, for the prior is about those who don't lie.
    """
    mean = min(float(events.sum() / max(chances.sum(), 1.0)), 0.5)
    expected = chances * mean
    drawn = np.minimum(events, expected + 3 * np.sqrt(expected) + 1)
    beyond = float(((drawn - expected) ** 2 - expected * (1 - mean)).sum())
    room = float((expected * (1 - mean) * np.maximum(chances - 1, 0)).sum())
    if beyond <= 0 or room <= 0:
        return PRIOR_STRENGTH_RANGE[1]
    return float(np.clip(room / beyond - 1, *PRIOR_STRENGTH_RANGE))


def e_values_to_q_values(log_e: Floats) -> Floats:
    """Return the smallest level at which e-BH discovers each of m hypotheses (Wang and Ramdas 2022).

    The smallest m / (rank * e) of all ranks from its own on, at most 1. The e-values may depend on each other.
    """
    order = np.argsort(-log_e)
    with np.errstate(over="ignore"):
        level = np.exp(np.log(max(len(log_e), 1)) - np.log(np.arange(1, len(log_e) + 1)) - log_e[order])
    q = np.empty(len(log_e))
    q[order] = np.minimum(np.minimum.accumulate(level[::-1])[::-1], 1.0)
    return q


def _findings(evidence: SurprisingAnswers, directions: SellerDirections) -> list[SellerFinding]:
    rows = (np.ones(len(evidence.count), bool), evidence.differs, evidence.sure, evidence.struck)
    products, disagreements, sure, surprising = (evidence.by_seller(wanted) for wanted in rows)
    strength = estimate_prior_strength(surprising, sure)
    posterior, shrunk_rate, log_e = (
        directions.posterior(strength), directions.shrunk_rate(strength), directions.log_e()
    )  # fmt: skip
    # A mean of e-values is one: looking in every direction is paid for by the number of directions.
    total = np.full(len(evidence.sellers), -np.inf)
    np.logaddexp.at(total, directions.seller, log_e - np.log(max(evidence.categories - 1, 1)))
    tested = sure > 0
    q = np.ones(len(total))
    q[tested] = e_values_to_q_values(total[tested])

    order = np.lexsort((posterior, log_e))
    favourite = dict(
        zip(directions.seller[order].tolist(), order.tolist(), strict=True)
    )  # the last wins: the strongest
    peers = int(tested.sum()) - 1
    flagged = {
        number
        for number, row in favourite.items()
        if peers >= MINIMUM_PEERS
        and directions.evidence[row] >= MINIMUM_EVIDENCE
        and posterior[row] >= MINIMUM_POSTERIOR
        and q[number] <= FALSE_DISCOVERY_RATE
    }
    favoured = [int(directions.favourite[favourite[number]]) for number in flagged]
    findings = []
    for number, seller in enumerate(evidence.sellers.tolist()):
        figures: dict[str, object] = {}
        if (row := favourite.get(number)) is not None:
            category = int(directions.favourite[row])
            concentration = float(directions.evidence[row] / surprising[number])
            figures = {
                "favourite": category,
                "chances": int(directions.chances[row]),
                "evidence": int(directions.evidence[row]),
                "rate": float(directions.evidence[row] / directions.chances[row]),
                "shrunk_rate": float(shrunk_rate[row]),
                "peers_rate": float(directions.peers[row]),
                "allowed_rate": float(directions.allowed[row]),
                "posterior": float(posterior[row]),
                "concentration": concentration,
                "log_evidence": float(total[number]),
                "q": float(q[number]),
            }
            if number in flagged:
                way = ONE_CATEGORY if concentration >= CONCENTRATED else SCATTERED
                company = GROUP if favoured.count(category) > 1 else ALONE
                figures |= {"flagged": True, "reasons": (ABOVE_PEERS, way, company)}
        counts = (int(column[number]) for column in (products, disagreements, sure, surprising))
        findings.append(SellerFinding(seller, *counts, **figures))  # type: ignore[arg-type]
    return sorted(findings, key=lambda finding: (-finding.log_evidence, -finding.posterior))
