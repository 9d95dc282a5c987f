"""How the health page writes figures, names and addresses."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from classifier.models import ModelVersion
from feedback.monitoring.baselines import VersionPair
from feedback.monitoring.dashboard.scope import COHORTS
from feedback.monitoring.queries import Breakdown
from feedback.statistics.intervals import MINIMUM_ROWS, ROUNDING_TOLERANCE, Estimate


def share(estimate: Estimate | None, name: str = "", digits: int = 1) -> dict[str, Any]:
    """Return a share with its interval and n, or how many rows it lacks."""
    if estimate is None or not estimate.is_enough:
        rows = int(estimate.effective + ROUNDING_TOLERANCE) if estimate else 0
        return {
            "name": name,
            "missing": _("not enough data: %(rows)d of %(least)d") % {"rows": rows, "least": MINIMUM_ROWS},
        }
    note = interval(estimate.low, estimate.high, estimate.rows, digits)
    return {"name": name, "value": percent(estimate.value, digits), "note": note}


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def interval(low: float, high: float, rows: int, digits: int = 1) -> str:
    return f"{100 * low:.{digits}f} – {100 * high:.{digits}f} %, n {rows:,}"


def seconds(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def pair_name(pair: VersionPair, versions: Mapping[int, ModelVersion]) -> str:
    return " + ".join(str(versions[pk]) for pk in pair if pk and pk in versions)


def part_name(by: str, key: str, names: Mapping[str, str]) -> str:
    """Return the name of a category (of which `names` are by slug), cohort or language."""
    if by == "category":
        return names.get(key, key)
    if by == "cohort":
        return capfirst(str(COHORTS.get(key, key)))
    return key or _("no text")


def narrowed(only: Breakdown | None, names: Mapping[str, str]) -> str:
    """Return the sentence that says what the page is narrowed to."""
    if only is None:
        return ""
    if only.by == "cohort":
        return _("Only sellers here for %(time)s.") % {"time": COHORTS.get(only.key, only.key)}
    return _("Only %(name)s.") % {"name": part_name(only.by, only.key, names)}


def address(request: HttpRequest, **changes: object) -> str:
    """Return the page's address with other wishes; None takes one away."""
    given = {**{key: request.GET[key] for key in request.GET if key != "page"}, **changes}
    return "?" + urlencode({key: value for key, value in given.items() if value not in (None, "")})
