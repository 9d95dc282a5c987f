"""What is known of each version at work: answered, accepted, right, slow, failed. Counted by the database."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Sum

from classifier.models import Fault, Modality
from feedback.experiments import Share

POINTS = 12  # of a chart over time

# Of a model alone: its likeliest category, looked up for reviewed answers only. Answers that were rejected or set aside
# as suspicious say nothing, those that a reviewer corrected only what the reviewer said, and probabilities
# that were moved to the archive are neither right nor wrong.
BEST = "(SELECT key FROM jsonb_each_text(p.{modality}_probabilities) ORDER BY value::float DESC LIMIT 1)"
REVIEWED = "f.review IN ('accepted', 'corrected') AND p.{modality}_probabilities IS NOT NULL"
SAID = "f.review <> 'corrected'"
ANSWERS = """
LEFT JOIN feedback_feedback f ON f.prediction_id = p.id AND f.review NOT IN ('rejected', 'flagged')
LEFT JOIN classifier_category c ON c.id = COALESCE(f.correction_id, f.category_id)
"""
LIVE = f"""
SELECT p.{{modality}}_version_id, count(*), count(f.id) FILTER (WHERE {SAID}),
    count(*) FILTER (WHERE f.rank = 1 AND {SAID}), count(*) FILTER (WHERE f.rank IS NOT NULL AND {SAID}),
    count(*) FILTER (WHERE {REVIEWED}), count(*) FILTER (WHERE CASE WHEN {REVIEWED} THEN c.slug = {BEST} END),
    percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY (p.passes->'{{modality}}'->>'ms')::float)
FROM classifier_prediction p {ANSWERS}
WHERE p.created_at >= %s AND p.state = 'done' AND p.{{modality}}_version_id IS NOT NULL
GROUP BY 1
"""  # noqa: S608 - made of the names above
SHADOWS = f"""
SELECT s.version_id, count(*) FILTER (WHERE s.error = ''), count(*) FILTER (WHERE s.error <> ''),
    count(s.agrees), count(*) FILTER (WHERE s.agrees), count(*) FILTER (WHERE {REVIEWED} AND s.error = ''),
    count(*) FILTER (WHERE {REVIEWED} AND s.best = c.slug),
    percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY s.milliseconds)
FROM classifier_shadowanswer s JOIN classifier_modelversion v ON v.id = s.version_id
JOIN classifier_prediction p ON p.id = s.prediction_id {ANSWERS}
WHERE s.created_at >= %s AND v.modality = '{{modality}}'
GROUP BY 1
"""  # noqa: S608
OVER_TIME = f"""
SELECT p.{{modality}}_version_id, date_bin(%s, f.answered_at, %s) AS slice, count(f.id) FILTER (WHERE {SAID}),
    count(*) FILTER (WHERE f.rank = 1 AND {SAID})
FROM classifier_prediction p {ANSWERS}
WHERE p.created_at >= %s AND f.id IS NOT NULL AND p.{{modality}}_version_id IS NOT NULL
GROUP BY 1, 2 ORDER BY 2
"""  # noqa: S608


@dataclass
class Tally:
    """One version's figures. `first` and `five`: the seller's choice stood first, or among the five that were shown.

    `right`: on reviewed answers, whether the model alone found the category likeliest. Milliseconds are a product's
    share of its pass.
    """

    answered: int = 0
    failed: int = 0
    first: Share = field(default_factory=lambda: Share(0, 0))
    five: Share = field(default_factory=lambda: Share(0, 0))
    right: Share = field(default_factory=lambda: Share(0, 0))
    agrees: Share = field(default_factory=lambda: Share(0, 0))
    p50: float | None = None
    p95: float | None = None

    @property
    def errors(self) -> Share:
        return Share(self.failed, self.answered + self.failed)


def tally_live(modality: str, since: datetime) -> dict[int, Tally]:
    """Return the figures of each version that answered since then, by its id."""
    faults = Fault.objects.filter(version__modality=modality, created_at__gte=since)
    failed = dict(faults.values("version").annotate(sum=Sum("rows")).values_list("version", "sum"))
    tallies = {pk: Tally(failed=count) for pk, count in failed.items()}
    for pk, count, answers, first, five, reviewed, right, times in _rows(LIVE, modality, [since]):
        p50, p95 = times or (None, None)
        tallies[pk] = Tally(
            count,
            failed.get(pk, 0),
            Share(first, answers),
            Share(five, answers),
            Share(right, reviewed),
            p50=p50,
            p95=p95,
        )
    return tallies


def tally_shadows(modality: str, since: datetime) -> dict[int, Tally]:
    """Return the figures of each shadow that looked on since then, by its id."""
    tallies = {}
    for pk, count, failed, compared, agreed, reviewed, right, times in _rows(SHADOWS, modality, [since]):
        p50, p95 = times or (None, None)
        tallies[pk] = Tally(
            count, failed, right=Share(right, reviewed), agrees=Share(agreed, compared), p50=p50, p95=p95
        )
    return tallies


def first_over_time(modality: str, since: datetime, until: datetime) -> dict[int, list[tuple[datetime, Share]]]:
    """Return, for each version, how often the seller's choice stood first in each slice of the time."""
    step = max((until - since) / POINTS, timedelta(minutes=1))
    series: dict[int, list[tuple[datetime, Share]]] = {}
    for pk, slice_, answers, first in _rows(OVER_TIME, modality, [step, since, since]):
        series.setdefault(pk, []).append((slice_ + step / 2, Share(first, answers)))
    return series


def _rows(query: str, modality: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query.format(modality=Modality(modality).value), parameters)
        return list(cursor.fetchall())
