"""Describe a case's figures in sentences, for the people who judge it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from common.formatting import format_count, format_interval, format_percent
from feedback.statistics.fraud import ABOVE_PEERS, ALONE, GROUP, ONE_CATEGORY, SCATTERED
from feedback.statistics.proportions import Proportion


@dataclass(frozen=True)
class RateBar:
    """A rate for comparison with others: the length of its bar as a share of 1, its value as text, and a note."""

    name: str
    share: float
    shown: str
    note: str = ""


def describe_reasons(codes: Sequence[str], favourite: str) -> list[str]:
    """Return a sentence for each reason; codes of a newer version are left out."""
    sentences = {
        ABOVE_PEERS: _("This seller puts far more products there than other sellers do with the same products."),
        ONE_CATEGORY: _("At least half of the surprising answers are in one category, %(favourite)s."),
        SCATTERED: _("The surprising answers are scattered over several categories, which may mean confusion."),
        ALONE: _("No other flagged seller favours %(favourite)s."),
        GROUP: _("Other flagged sellers favour %(favourite)s, too: they may act together."),
    }
    return [sentences[code] % {"favourite": favourite} for code in codes if code in sentences]


def describe_case(figures: Mapping[str, Any], favourite: str) -> str:
    """Return what the case is about in one sentence."""
    return ngettext(
        "The seller put %(evidence)d of %(chances)d product that both models confidently placed elsewhere into "
        "%(favourite)s.",
        "The seller put %(evidence)d of %(chances)d products that both models confidently placed elsewhere into "
        "%(favourite)s.",
        figures["chances"],
    ) % {"evidence": figures["evidence"], "favourite": favourite, "chances": figures["chances"]}


def compare_rates(figures: Mapping[str, Any], favourite: str) -> list[RateBar]:
    """Return the seller's rate, that of peers, and the largest that counts as honest."""
    own = Proportion(figures["evidence"], figures["chances"])
    low, high = own.interval()
    rates = [
        (_("This seller"), own.value, format_interval(low, high, own.total, digits=1)),
        (_("Other sellers, same products"), figures["peers_rate"], ""),
        (_("Highest rate that counts as honest"), figures["allowed_rate"], ""),
    ]
    highest = max(rate for _name, rate, _note in rates) or 1.0
    return [RateBar(name, rate / highest, format_rate(rate), note) for name, rate, note in rates]


def describe_certainty(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how certain the finding is, as pairs of a name and a description."""
    posterior = figures["posterior"]
    counts = {name: format_count(figures[name]) for name in ("products", "sure", "surprising")}
    return [
        (
            _("Probability that the true rate is above the highest honest one"),
            _("over 99.9%") if posterior > 0.999 else format_percent(posterior, 1),
        ),
        (
            _("If every seller at least as suspicious were accused"),
            _describe_false_discovery_rate(figures["q"]),
        ),
        (
            _("Of the surprising answers"),
            _("%(share)s are in this category") % {"share": format_percent(figures["concentration"])},
        ),
        (
            _("Products"),
            _("%(products)s answered, %(sure)s of them confidently predicted by both models, %(surprising)s surprising")
            % counts,
        ),
    ]


def format_rate(rate: float) -> str:
    """Return a rate as a percentage with enough digits to tell a small one from 0."""
    return format_percent(rate, 2 if rate < 0.001 else 1)


def _describe_false_discovery_rate(q: float) -> str:
    """Return a false discovery rate as one in so many accusations, rounded down to one significant digit."""
    if q < 1e-6:
        return _("fewer than one accusation in a million would be wrong")
    count = int(1 / q)
    magnitude: int = 10 ** (len(str(count)) - 1)
    return _("about one accusation in %(count)s would be wrong") % {
        "count": format_count(count // magnitude * magnitude)
    }
