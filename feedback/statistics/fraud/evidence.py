"""Find surprising answers in the totals of all sellers, and the categories that each seller favours with them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feedback.statistics.fraud.answer_log import (
    BAND,
    CHOSEN,
    CONFIDENCE_BANDS,
    PREDICTED,
    SELLER,
    VERSION,
    Floats,
    Ints,
    SellerTotals,
)
from feedback.statistics.fraud.peer_rates import (
    CellIndex,
    TransitionRates,
    WinsorisedRates,
    exposure_weight,
    shrink_rate,
    sum_by_cell,
    winsorise_rates,
)

SURPRISE_THRESHOLD = 3.0  # nats above the usual surprisal: a twentieth of the usual probability
PEER_FACTOR = 3.0  # a: how often the peers' rate still counts as honest
CONFUSION_SHARE = 0.15  # c: errors of an honest but confused seller, in the directions in which peers err
MAXIMUM_ALLOWED_RATE = 0.98
ALTERNATIVE_RATES = (0.05, 0.1, 0.2, 0.4, 0.8)  # shares of deliberately wrong answers that the evidence is weighed for
PRIOR_PRODUCTS = 50.0  # trials that the rate of a wider cell is worth
PRIOR_DISAGREEMENTS = 10.0  # the same for rates among disagreements
FREE_NATS = 1.0  # surprisal of a seller in a context that counts in any case
BAND_COUNT = len(CONFIDENCE_BANDS) + 1

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FavouredCategories:
    """Columns (n,), one row for each seller and each category that received surprising answers of that seller.

    `seller` is the seller's index. `events` are the surprising answers into `category`, of `trials` confident products
    that were predicted to be in another category. `peer_rate` is the rate that peers would have with the same products,
    `allowed_rate` the largest rate that counts as honest.
    """

    seller: Ints
    category: Ints
    events: Floats
    trials: Floats
    peer_rate: Floats
    allowed_rate: Floats

    def log_e_values(self) -> Floats:
        """Return the logarithms (n,) of the e-values against "the rate is at most the allowed one".

        An e-value is the binomial likelihood ratio of a higher rate to the allowed one, averaged over
        `ALTERNATIVE_RATES`. At the allowed rate or below, its expectation is at most 1 after every product. It is a
        test supermartingale, so that looking again and again does not inflate it (Ville 1939; Grünwald, de Heide and
        Koolen 2024, "Safe testing").
        """
        from scipy.special import logsumexp

        allowed = self.allowed_rate[:, None]
        higher = allowed + (1 - allowed) * np.array(ALTERNATIVE_RATES)
        misses = self.trials - self.events
        log_ratio = self.events[:, None] * np.log(higher / allowed)
        log_ratio += misses[:, None] * np.log((1 - higher) / (1 - allowed))
        return np.asarray(logsumexp(log_ratio, axis=1) - np.log(len(ALTERNATIVE_RATES)))

    def posterior_above_allowed(self, strength: float) -> Floats:
        """Return P(rate > allowed rate) (n,) under the prior Beta(strength * peer_rate, strength * (1 - peer_rate))."""
        from scipy.special import betainc

        mean = np.clip(self.peer_rate, 1e-6, 1 - 1e-6)
        first = strength * mean + self.events
        second = strength * (1 - mean) + self.trials - self.events
        return np.asarray(1 - betainc(first, second, self.allowed_rate))

    def shrunk_rates(self, strength: float) -> Floats:
        """Return the posterior means (n,) of the sellers' rates under the same prior."""
        return shrink_rate(self.events, self.trials, self.peer_rate, strength)


class SurprisingAnswers:
    """The totals' columns as numbers from 0, with the usual surprisal of each context and what exceeds it.

    A context is a model version, a confidence band and a predicted category.
    """

    def __init__(self, totals: SellerTotals, categories: int) -> None:
        keys = totals.keys
        self.categories = categories
        self.sellers, self.seller = np.unique(keys[:, SELLER], return_inverse=True)
        self.versions, self.version = np.unique(keys[:, VERSION], return_inverse=True)
        self.band, self.predicted, self.chosen = keys[:, BAND], keys[:, PREDICTED], keys[:, CHOSEN]
        self.count = totals.count.astype(np.float64)
        self.is_disagreement = self.chosen != self.predicted
        self.is_confident = self.band > 0
        context = (self.version * BAND_COUNT + self.band) * categories + self.predicted
        self.contexts = CellIndex.of(context[self.is_confident])
        self.usual_surprisal, excess = self._compare_with_peers(totals.surprisal[self.is_confident])
        self.is_surprising = np.zeros(len(self.count), bool)
        self.is_surprising[self.is_confident] = self.is_disagreement[self.is_confident] & (excess >= SURPRISE_THRESHOLD)

    def count_by_seller(self, rows: Flags) -> Floats:
        """Return how many answers of the marked rows each seller has."""
        return sum_by_cell(self.seller, self.count * rows, len(self.sellers))

    def surprisal_by_context(self) -> dict[tuple[int, int, int], float]:
        """Return the usual surprisal in nats by version, confidence band and predicted category."""
        version_and_band, predicted = np.divmod(self.contexts.codes, self.categories)
        versions = self.versions[version_and_band // BAND_COUNT].tolist()
        bands = (version_and_band % BAND_COUNT).tolist()
        contexts = zip(versions, bands, predicted.tolist(), strict=True)
        return dict(zip(contexts, self.usual_surprisal.tolist(), strict=True))

    def _compare_with_peers(self, nats: Floats) -> tuple[Floats, Floats]:
        """Return the usual surprisal of each context, and by how much each confident row exceeds that of the peers."""
        context_count, count = len(self.contexts.codes), self.count[self.is_confident]
        mine = CellIndex.of(self.seller[self.is_confident] * context_count + self.contexts.cell)
        context = mine.codes % max(context_count, 1)
        seller = mine.codes // max(context_count, 1)
        seller_nats, products = mine.sum(nats), mine.sum(count)
        weights = exposure_weight(products)
        weighted_products = products * weights
        total = sum_by_cell(context, weighted_products, context_count)
        usual = winsorise_rates(context, seller_nats, products, total, FREE_NATS)
        own = usual.cap_events(context, seller_nats, products, FREE_NATS) * weights
        band = self.contexts.codes // self.categories % BAND_COUNT
        of_band = WinsorisedRates(
            sum_by_cell(band, usual.events, BAND_COUNT), sum_by_cell(band, usual.trials, BAND_COUNT)
        )
        seller_bands = CellIndex.of(seller * BAND_COUNT + band[context])
        others_nats = of_band.events[band[context]] - seller_bands.sum(own)[seller_bands.cell]
        others_products = of_band.trials[band[context]] - seller_bands.sum(weighted_products)[seller_bands.cell]
        # Where no other seller has been, next to no surprisal is usual: that of a confident and correct answer.
        others_mean = np.maximum(others_nats, 0) / np.maximum(others_products, 1)
        peers = shrink_rate(
            usual.events[context] - own, usual.trials[context] - weighted_products, others_mean, PRIOR_PRODUCTS
        )
        band_mean = of_band.events / np.maximum(of_band.trials, 1)
        of_everyone = shrink_rate(usual.events, usual.trials, band_mean[band], PRIOR_PRODUCTS)
        return of_everyone, nats / count - peers[mine.cell]

    def favoured_categories(self) -> FavouredCategories:
        """Return every seller's surprising answers by the category that they went to, beside what peers would do.

        The allowed rate is the largest of: `PEER_FACTOR` times the peers' rate; the rate of a seller who errs in
        `CONFUSION_SHARE` of the products and in the same directions as peers; and `PEER_FACTOR` times the seller's mean
        rate over the other categories.
        """
        size = self.categories
        pairs = CellIndex.of((self.seller * size + self.chosen)[self.is_surprising])
        seller, category = np.divmod(pairs.codes, size)
        events = pairs.sum(self.count[self.is_surprising])
        trials, peer_rate, honest_rate = self._peer_rates_of_pairs(seller, category)
        elsewhere = self.count_by_seller(self.is_surprising)[seller] - events
        scatter_rate = elsewhere / trials / max(size - 2, 1)
        allowed_rate = np.minimum(np.maximum(honest_rate, PEER_FACTOR * scatter_rate), MAXIMUM_ALLOWED_RATE)
        return FavouredCategories(seller, category, events, trials, peer_rate, allowed_rate)

    def _peer_rates_of_pairs(self, seller: Ints, category: Ints) -> tuple[Floats, Floats, Floats]:
        """Return the trials, the peers' rate and the honest rate of pairs (n,) of a seller and a category.

        Rates are averages over the seller's own confident products that were predicted to be in another category.
        """
        size, confident = self.categories, self.is_confident
        columns = self.seller[confident], self.predicted[confident], self.chosen[confident]
        counts = self.count[confident]
        surprising = (self.count * self.is_surprising)[confident]
        by_category = TransitionRates(*columns, counts, surprising, origins=size, targets=size)
        # Rates by version, too: what a new version gets wrong is no seller's doing.
        origin = (self.version * size + self.predicted)[confident]
        origins = len(self.versions) * size
        counted = surprising * by_category.counted_share(*columns)
        by_version = TransitionRates(
            columns[0], origin, columns[2], counts, counted, origins=origins, targets=size, free=np.inf
        )
        # Every disagreement, confident or not, shows which categories are mistaken for each other.
        rows = self.is_disagreement
        errors = TransitionRates(
            self.seller[rows], self.predicted[rows], self.chosen[rows], self.count[rows], self.count[rows],
            origins=size, targets=size,
        )  # fmt: skip

        pair, exposure = _join_sorted(seller, by_version.exposures.codes // origins)
        target = category[pair]
        version_origin = by_version.exposures.codes[exposure] % origins
        predicted = version_origin % size
        is_elsewhere = predicted != target
        pair, exposure, target = pair[is_elsewhere], exposure[is_elsewhere], target[is_elsewhere]
        version_origin, predicted = version_origin[is_elsewhere], predicted[is_elsewhere]
        who = seller[pair]

        mean_rate = by_category.mean_rate() / max(size - 1, 1)
        of_category = by_category.peer_rates(who, predicted, target, prior_mean=mean_rate, prior_trials=PRIOR_PRODUCTS)
        peers = by_version.peer_rates(who, version_origin, target, prior_mean=of_category, prior_trials=PRIOR_PRODUCTS)
        even = 1 / max(size - 1, 1)
        # Two categories are confusable whichever of them is mistaken for the other.
        confusable = np.maximum(
            errors.peer_rates(who, predicted, target, prior_mean=even, prior_trials=PRIOR_DISAGREEMENTS),
            errors.peer_rates(who, target, predicted, prior_mean=even, prior_trials=PRIOR_DISAGREEMENTS),
        )
        weights = by_version.trials[exposure]
        trials = sum_by_cell(pair, weights, len(seller))
        peer_rate = sum_by_cell(pair, weights * peers, len(seller)) / trials
        honest = np.maximum(PEER_FACTOR * peers, CONFUSION_SHARE * confusable)
        return trials, peer_rate, sum_by_cell(pair, weights * honest, len(seller)) / trials


def _join_sorted(keys: Ints, sorted_keys: Ints) -> tuple[Ints, Ints]:
    """Return every pair of a row of `keys` and a row of `sorted_keys` that are equal, as two columns of row numbers."""
    first = np.searchsorted(sorted_keys, keys)
    matches = np.searchsorted(sorted_keys, keys, side="right") - first
    left = np.repeat(np.arange(len(keys)), matches)
    matches_before = np.cumsum(matches) - matches
    right = np.arange(len(left)) + np.repeat(first - matches_before, matches)
    return left, right
