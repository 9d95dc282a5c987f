"""Name version pairs and breakdowns in words, and address the page with other filters."""

from collections.abc import Mapping
from urllib.parse import urlencode

from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from classifier.models import ModelVersion
from feedback.monitoring.baselines import VersionPair
from feedback.monitoring.dashboard.scope import COHORT_LABELS
from feedback.monitoring.queries import Breakdown


def pair_name(pair: VersionPair, versions: Mapping[int, ModelVersion]) -> str:
    """Return the names of a pair's versions, joined by a plus sign."""
    return " + ".join(str(versions[pk]) for pk in pair if pk and pk in versions)


def breakdown_value_name(by: str, key: str, category_names: Mapping[str, str]) -> str:
    """Return the name of a category, cohort or language; `category_names` are by slug."""
    if by == "category":
        return category_names.get(key, key)
    if by == "cohort":
        return capfirst(str(COHORT_LABELS.get(key, key)))
    return key or _("no text")


def breakdown_sentence(breakdown: Breakdown | None, category_names: Mapping[str, str]) -> str:
    """Return a sentence that says what the page is limited to; nothing for None."""
    if breakdown is None:
        return ""
    if breakdown.by == "cohort":
        return _("Only sellers here for %(time)s.") % {"time": COHORT_LABELS.get(breakdown.key, breakdown.key)}
    return _("Only %(name)s.") % {"name": breakdown_value_name(breakdown.by, breakdown.key, category_names)}


def page_address(request: HttpRequest, **changes: object) -> str:
    """Return the page's query string with some parameters changed; None removes one."""
    parameters: dict[str, object] = {key: request.GET[key] for key in request.GET if key != "page"}
    parameters.update(changes)
    return "?" + urlencode({key: value for key, value in parameters.items() if value not in (None, "")})
