"""A case's figures as sentences, for people who have to judge by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from feedback.statistics.fraud import ABOVE_PEERS, ALONE, GROUP, ONE_CATEGORY, SCATTERED
from feedback.statistics.proportions import Proportion

NO_BREAK_SPACE = "\u00a0"


@dataclass(frozen=True)
class RateBar:
    """A rate beside others: `share` of 1 for the bar's length, and in words."""

    name: str
    share: float
    shown: str
    note: str = ""


def describe_reasons(codes: Sequence[str], favourite: str) -> list[str]:
    said = {
        ABOVE_PEERS: _("Far more of this seller's products go there than other sellers' with the same products."),
        ONE_CATEGORY: _("At least half of what surprises goes into one category, %(favourite)s."),
        SCATTERED: _("What surprises is scattered over several categories: perhaps confusion."),
        ALONE: _("No other flagged seller favours %(favourite)s."),
        GROUP: _("Other flagged sellers favour %(favourite)s too: they may act together."),
    }
    return [said[code] % {"favourite": favourite} for code in codes if code in said]


def describe_case(figures: Mapping[str, Any], favourite: str) -> str:
    """Return what the case is about in one sentence."""
    return ngettext(
        "%(evidence)d of %(chances)d product that both models surely put elsewhere went into %(favourite)s.",
        "%(evidence)d of %(chances)d products that both models surely put elsewhere went into %(favourite)s.",
        figures["chances"],
    ) % {"evidence": figures["evidence"], "favourite": favourite, "chances": figures["chances"]}


def compare_rates(figures: Mapping[str, Any], favourite: str) -> list[RateBar]:
    """Return the seller's rate beside the peers' and the most that counts as honest."""
    own = Proportion(figures["evidence"], figures["chances"])
    low, high = own.interval()
    rows = [
        (_("This seller"), own.value, _("%(low)s – %(high)s, n %(n)d") % {
            "low": format_percent(low), "high": format_percent(high), "n": own.total,
        }),
        (_("Other sellers, same products"), figures["peers_rate"], ""),
        (_("Most that counts as honest"), figures["allowed_rate"], ""),
    ]  # fmt: skip
    longest = max(share for _name, share, _note in rows) or 1.0
    return [RateBar(name, share / longest, format_percent(share), note) for name, share, note in rows]


def describe_certainty(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how sure the finding is, as (what, in words)."""
    posterior, q = figures["posterior"], figures["q"]
    sure = _("over 99.9 %") if posterior > 0.999 else format_percent(posterior)
    return [
        (_("Chance that the true rate is above the honest one"), sure),
        (
            _("Were everybody accused who is at least as suspicious"),
            _wrong(q),
        ),
        (
            _("Of the surprising answers"),
            _("%(share)s go into this category") % {"share": format_percent(figures["concentration"])},
        ),
        (
            _("Products"),
            _("%(products)s answered, %(sure)s of them surely predicted by both models, %(surprising)s surprising")
            % {name: f"{figures[name]:,}" for name in ("products", "sure", "surprising")},
        ),
    ]


def format_percent(share: float) -> str:
    """Return a share with as many digits as tell it from none."""
    if share <= 0:
        return f"0{NO_BREAK_SPACE}%"
    if share < 0.0001:
        return f"<0.01{NO_BREAK_SPACE}%"
    return f"{100 * share:.{2 if share < 0.001 else 1}f}{NO_BREAK_SPACE}%"


def _wrong(q: float) -> str:
    """Return a false discovery rate in words: one in so many, rounded down to one digit."""
    if q < 1e-6:
        return _("fewer than one accusation in a million would be wrong")
    count = int(1 / q)
    size: int = 10 ** (len(str(count)) - 1)
    return _("about one accusation in %(count)s would be wrong") % {"count": f"{count // size * size:,}"}
