"""What in a tally speaks against a seller: surprising answers, and the category that they favour."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, logsumexp

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
    exposure_weight,
    shrink_rate,
    sum_by_cell,
    winsorise_rates,
)

SURPRISE_THRESHOLD = 3.0  # nats above the usual surprise: one twentieth of the usual probability
PEER_FACTOR = 3.0  # peers' rate may be exceeded so far
CONFUSION_SHARE = 0.15  # an honest seller may be wrong so often, in the directions in which others are wrong
ALTERNATIVE_RATES = (0.05, 0.1, 0.2, 0.4, 0.8)  # shares of lies that the evidence is weighed against
PRIOR_PRODUCTS = 50.0  # products that a wider cell's rate is worth to a narrower one
PRIOR_DISAGREEMENTS = 10.0  # disagreements, likewise
FREE_NATS = 1.0  # nats
BAND_COUNT = len(CONFIDENCE_BANDS) + 1

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SellerDirections:
    """Columns (n,), one row for a seller (a number) and a category that the seller put surprising products into.

    `chances`: sure products that were predicted to be in another category; `evidence`: how many of them surprise there.
    `peers`: the share that peers with the same products would have; `allowed`: the largest that counts as honest.
    """

    seller: Ints
    favourite: Ints
    evidence: Floats
    chances: Floats
    peers: Floats
    allowed: Floats

    def log_e(self) -> Floats:
        """Return the log e-values against "the rate is at most the allowed one".

        The mean over `ALTERNATIVE_RATES` of the binomial likelihood ratio of a higher rate to the allowed one. Its
        expectation is at most 1 at the allowed rate and at any lower one, after every product: a test supermartingale
        (Ville 1939; Grünwald, de Heide and Koolen 2024, "Safe testing").
        """
        honest = self.allowed[:, None]
        lying = honest + (1 - honest) * np.array(ALTERNATIVE_RATES)
        ratio = self.evidence[:, None] * np.log(lying / honest)
        ratio += (self.chances - self.evidence)[:, None] * np.log((1 - lying) / (1 - honest))
        return np.asarray(logsumexp(ratio, axis=1) - np.log(len(ALTERNATIVE_RATES)))

    def posterior(self, strength: float) -> Floats:
        """Return P(rate > allowed rate) under the prior Beta(strength * peers, strength * (1 - peers))."""
        mean = np.clip(self.peers, 1e-6, 1 - 1e-6)
        honest = strength * (1 - mean) + self.chances - self.evidence
        return np.asarray(1 - betainc(strength * mean + self.evidence, honest, self.allowed))

    def shrunk_rate(self, strength: float) -> Floats:
        return shrink_rate(self.evidence, self.chances, self.peers, strength)


class SurprisingAnswers:
    """A tally's columns as numbers from 0, with what is usual and what surprises beyond it."""

    def __init__(self, tally: SellerTotals, categories: int) -> None:
        self.categories = categories
        self.sellers, self.seller = np.unique(tally.keys[:, SELLER], return_inverse=True)
        self.versions, self.version = np.unique(tally.keys[:, VERSION], return_inverse=True)
        self.band, self.predicted, self.chosen = (tally.keys[:, column] for column in (BAND, PREDICTED, CHOSEN))
        self.count = tally.count.astype(np.float64)
        self.differs = self.chosen != self.predicted
        self.sure = self.band > 0
        self.context = CellIndex.of(((self.version * BAND_COUNT + self.band) * categories + self.predicted)[self.sure])
        self.usual_surprise, excess = self._surprise(tally.surprise[self.sure])
        self.struck = np.zeros(len(self.count), bool)
        self.struck[self.sure] = self.differs[self.sure] & (excess >= SURPRISE_THRESHOLD)

    def by_seller(self, rows: Flags) -> Floats:
        """Return how many answers of some rows each seller has."""
        return sum_by_cell(self.seller, self.count * rows, len(self.sellers))

    def contexts(self) -> dict[tuple[int, int, int], float]:
        """Return the usual surprise in nats by version, confidence band and predicted category."""
        codes, predicted = np.divmod(self.context.codes, self.categories)
        versions = self.versions[codes // BAND_COUNT].tolist()
        keys = zip(versions, (codes % BAND_COUNT).tolist(), predicted.tolist(), strict=True)
        return dict(zip(keys, self.usual_surprise.tolist(), strict=True))

    def _surprise(self, nats: Floats) -> tuple[Floats, Floats]:
        """Return the usual surprise of each context, and how far each sure row is above that of the seller's peers."""
        contexts, count = len(self.context.codes), self.count[self.sure]
        mine = CellIndex.of(self.seller[self.sure] * contexts + self.context.place)
        cell = mine.codes % max(contexts, 1)
        spent, products = mine.sum(nats), mine.sum(count)
        heard = products * exposure_weight(products)
        found = winsorise_rates(cell, spent, products, sum_by_cell(cell, heard, contexts), FREE_NATS)
        own = found.capped(cell, spent, products, FREE_NATS) * exposure_weight(products)
        band = self.context.codes // self.categories % BAND_COUNT
        events, chances = (sum_by_cell(band, column, BAND_COUNT) for column in (found.events, found.chances))
        of_seller = CellIndex.of(mine.codes // max(contexts, 1) * BAND_COUNT + band[cell])
        others = [
            total[band[cell]] - of_seller.sum(part)[of_seller.place]
            for total, part in ((events, own), (chances, heard))
        ]
        # Where nobody else has been, a sure and right answer is what is usual: next to no surprise.
        wider = np.maximum(others[0], 0) / np.maximum(others[1], 1)
        peers = shrink_rate(found.events[cell] - own, found.chances[cell] - heard, wider, PRIOR_PRODUCTS)
        everyone = shrink_rate(found.events, found.chances, events[band] / np.maximum(chances[band], 1), PRIOR_PRODUCTS)
        return everyone, nats / count - peers[mine.place]

    def directions(self) -> SellerDirections:
        """Return every seller's surprising answers by the category that they went to, beside what peers would do.

        The allowed rate is the largest of: `PEER_FACTOR` the peers' rate; the rate of a seller who is wrong in
        `CONFUSION_SHARE` of the products as others are wrong; and `PEER_FACTOR` what the seller scatters elsewhere.
        """
        size, sure, seller = self.categories, self.sure, self.seller
        columns = seller[sure], self.predicted[sure], self.chosen[sure], self.count[sure]
        struck = (self.count * self.struck)[sure]
        moves = TransitionRates(*columns, struck, origins=size, targets=size)
        # By version too, for what a new version gets wrong is no seller's doing.
        origin = (self.version * size + self.predicted)[sure]
        shares = moves.discount(*columns[:3])
        origins = len(self.versions) * size
        by_version = TransitionRates(
            columns[0], origin, *columns[2:], struck * shares, origins=origins, targets=size, unit=np.inf
        )
        # Every disagreement, sure or not, tells which categories are taken for each other.
        differs = self.differs
        slips = (column[differs] for column in (seller, self.predicted, self.chosen, self.count, self.count))
        errors = TransitionRates(*slips, origins=size, targets=size)

        pairs = CellIndex.of((seller * size + self.chosen)[self.struck])
        pair, place = _beside(pairs.codes // size, by_version.places.codes // origins)
        who, favourite = np.divmod(pairs.codes[pair], size)
        where = by_version.places.codes[place] % origins
        predicted = where % size
        apart = predicted != favourite
        pair, place, who, favourite, where, predicted = (
            column[apart] for column in (pair, place, who, favourite, where, predicted)
        )
        plain = moves.mean() / max(size - 1, 1)
        wider = moves.peers(who, predicted, favourite, wider=plain, pseudo=PRIOR_PRODUCTS)
        peers = by_version.peers(who, where, favourite, wider=wider, pseudo=PRIOR_PRODUCTS)
        even = 1 / max(size - 1, 1)
        confused = np.maximum(
            errors.peers(who, predicted, favourite, wider=even, pseudo=PRIOR_DISAGREEMENTS),
            errors.peers(who, favourite, predicted, wider=even, pseudo=PRIOR_DISAGREEMENTS),
        )
        weights = by_version.at[place]
        chances = sum_by_cell(pair, weights, len(pairs.codes))
        evidence = pairs.sum(self.count[self.struck])
        scattered = (self.by_seller(self.struck)[pairs.codes // size] - evidence) / chances / max(size - 2, 1)
        allowed = (
            sum_by_cell(pair, weights * np.maximum(PEER_FACTOR * peers, CONFUSION_SHARE * confused), len(pairs.codes))
            / chances
        )
        return SellerDirections(
            *np.divmod(pairs.codes, size),
            evidence,
            chances,
            sum_by_cell(pair, weights * peers, len(pairs.codes)) / chances,
            np.minimum(np.maximum(allowed, PEER_FACTOR * scattered), 0.98),
        )


def _beside(keys: Ints, owners: Ints) -> tuple[Ints, Ints]:
    """Return every pair (row of `keys`, row of `owners`) with the same number; `owners` is in order."""
    first, last = np.searchsorted(owners, keys), np.searchsorted(owners, keys, side="right")
    many = last - first
    left = np.repeat(np.arange(len(keys)), many)
    right = np.arange(len(left)) + np.repeat(first - np.cumsum(many) + many, many)
    return left, right
