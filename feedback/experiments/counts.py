"""What is known of each version at work: answered, accepted, right, slow, failed. Counted by the database, by hours."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone

from classifier.models import Fault, Modality, Prediction
from feedback.models import HealthSummary, Period, VersionHour
from feedback.models.answers import MEASURED
from feedback.statistics.counters import BINS_PER_DOUBLING, DurationHistogram
from feedback.statistics.proportions import Proportion

HOUR = timedelta(hours=1)
CHART_POINTS = 12  # of a chart over time
LIVE_COUNTED = 2 * HOUR  # that are counted while somebody waits for the page

# Of a model alone: its likeliest category, looked up for reviewed answers only. Answers that were rejected or set aside
# as suspicious say nothing, those that a reviewer overruled only what the reviewer said, and probabilities
# that were moved to the archive are neither right nor wrong.
BEST = "(SELECT key FROM jsonb_each_text(p.{modality}_probabilities) ORDER BY value::float DESC LIMIT 1)"
REVIEWED = f"f.review IN {MEASURED} AND p.{{modality}}_probabilities IS NOT NULL"
SAID = "f.review NOT IN ('corrected', 'homeless')"
ANSWERS = """
LEFT JOIN feedback_feedback f ON f.prediction_id = p.id AND f.review NOT IN ('rejected', 'flagged')
LEFT JOIN classifier_category c ON f.review <> 'homeless' AND c.id = COALESCE(f.correction_id, f.category_id)
"""
ANSWERED = "p.finished_at >= %s AND p.finished_at < %s AND p.state = 'done' AND p.{modality}_version_id IS NOT NULL"
LOOKED_ON = "s.created_at >= %s AND s.created_at < %s AND v.modality = '{modality}'"
STEP = f"round({BINS_PER_DOUBLING} * log(2, greatest(%s, 0.001)::numeric))::int"  # as DurationHistogram has it

LIVE = f"""
SELECT p.{{modality}}_version_id, count(*), 0, count(f.id) FILTER (WHERE {SAID}),
    count(*) FILTER (WHERE f.rank = 1 AND {SAID}), count(*) FILTER (WHERE f.rank IS NOT NULL AND {SAID}),
    count(*) FILTER (WHERE {REVIEWED}), count(*) FILTER (WHERE CASE WHEN {REVIEWED} THEN c.slug = {BEST} END)
FROM classifier_prediction p {ANSWERS}
WHERE {ANSWERED}
GROUP BY 1
"""  # noqa: S608 - made of the names above
LIVE_TIMES = f"""
SELECT p.{{modality}}_version_id, {STEP % "(p.passes->'{modality}'->>'ms')::float"}, count(*)
FROM classifier_prediction p
WHERE {ANSWERED} AND p.passes->'{{modality}}'->>'ms' IS NOT NULL
GROUP BY 1, 2
"""  # noqa: S608
SHADOWS = f"""
SELECT s.version_id, count(*) FILTER (WHERE s.error = ''), count(*) FILTER (WHERE s.error <> ''), 0, 0, 0,
    count(*) FILTER (WHERE {REVIEWED} AND s.error = ''), count(*) FILTER (WHERE {REVIEWED} AND s.best = c.slug),
    count(s.agrees), count(*) FILTER (WHERE s.agrees)
FROM classifier_shadowanswer s JOIN classifier_modelversion v ON v.id = s.version_id
JOIN classifier_prediction p ON p.id = s.prediction_id {ANSWERS}
WHERE {LOOKED_ON}
GROUP BY 1
"""  # noqa: S608
SHADOW_TIMES = f"""
SELECT s.version_id, {STEP % "s.milliseconds"}, count(*)
FROM classifier_shadowanswer s JOIN classifier_modelversion v ON v.id = s.version_id
WHERE {LOOKED_ON} AND s.milliseconds IS NOT NULL
GROUP BY 1, 2
"""  # noqa: S608


@dataclass
class VersionCounts:
    """What one version did in some time, as sums that add up.

    `answered` and `failed` are products; `answers` what sellers said of them, that stood `first` or among the `five`
    that were shown; `right` on `reviewed` answers, where the model alone found the category likeliest. A shadow was
    `compared` with the live model of its kind, and agreed. `times`: a product's share of its pass.
    """

    answered: int = 0
    failed: int = 0
    answers: int = 0
    first: int = 0
    five: int = 0
    reviewed: int = 0
    right: int = 0
    compared: int = 0
    agreed: int = 0
    times: DurationHistogram = field(default_factory=DurationHistogram)

    @property
    def chose_first(self) -> Proportion:
        return Proportion(self.first, self.answers)

    @property
    def chose_five(self) -> Proportion:
        return Proportion(self.five, self.answers)

    @property
    def was_right(self) -> Proportion:
        return Proportion(self.right, self.reviewed)

    @property
    def agrees(self) -> Proportion:
        return Proportion(self.agreed, self.compared)

    @property
    def errors(self) -> Proportion:
        return Proportion(self.failed, self.answered + self.failed)

    def add(self, other: "VersionCounts") -> None:
        for name, value in other.counts().items():
            setattr(self, name, getattr(self, name) + value)
        self.times.update(other.times)

    def counts(self) -> dict[str, int]:
        return {name: value for name, value in vars(self).items() if name != "times"}

    def to_json(self) -> dict[str, Any]:
        return {**self.counts(), "times": dict(self.times)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        times = DurationHistogram({int(step): rows for step, rows in content["times"].items()})
        return cls(**{**content, "times": times})


class VersionPeriod(NamedTuple):
    """What a version did from `start` on: in an hour, or in the part of one."""

    start: datetime
    version: int
    is_shadow: bool
    tally: VersionCounts


def read_version_periods(modality: str, since: datetime, now: datetime) -> list[VersionPeriod]:
    """Return what each version of a modality did since then, in order of time.

    Hours that were summarised are read; the rest of the first one and what came after the last one is counted, of that
    at most the newest two hours (see `find_uncounted_period`).
    """
    summarised = _summarised_to(since)
    begin = min(_next_hour(since), summarised)
    hours = VersionHour.objects.filter(version__modality=modality, start__gte=begin, start__lt=summarised)
    return [
        *_count(modality, since, begin),
        *(
            VersionPeriod(row.start, row.version_id, row.is_shadow, VersionCounts.from_json(row.counts))
            for row in hours
        ),
        *_count(modality, max(summarised, now - LIVE_COUNTED), now),
    ]


def find_uncounted_period(since: datetime, now: datetime) -> tuple[datetime, datetime] | None:
    """Return the period that `read_version_periods` leaves out for lack of summaries; None if there is none."""
    begin, end = _summarised_to(since), now - LIVE_COUNTED
    missed = Prediction.objects.finished().filter(finished_at__gte=begin, finished_at__lt=end)
    return (begin, end) if begin < end and missed.exists() else None


def count_stale_hours(since: datetime) -> int:
    """Return how many hours since then wait to be counted anew, as something was said of their products."""
    stale = HealthSummary.objects.of(Period.HOUR).filter(is_stale=True, start__gte=since)
    return stale.values("start").distinct().count()


def sum_by_version(work: Iterable[VersionPeriod], *, is_shadow: bool) -> dict[int, VersionCounts]:
    """Add up what each version did live, or as a shadow."""
    tallies: dict[int, VersionCounts] = defaultdict(VersionCounts)
    for each in work:
        if each.is_shadow == is_shadow:
            tallies[each.version].add(each.tally)
    return dict(tallies)


def first_choice_over_time(
    work: Iterable[VersionPeriod], since: datetime, until: datetime
) -> dict[int, list[tuple[datetime, Proportion]]]:
    """Return, for each live version, how often the seller's choice stood first in each slice of the time."""
    step = max((until - since) / CHART_POINTS, HOUR)
    slices: dict[int, dict[int, VersionCounts]] = defaultdict(lambda: defaultdict(VersionCounts))
    for each in work:
        if not each.is_shadow:
            slices[each.version][(each.start - since) // step].add(each.tally)
    return {
        version: [
            (min(since + (place + 0.5) * step, until), tally.chose_first) for place, tally in sorted(of_version.items())
        ]
        for version, of_version in slices.items()
    }


@transaction.atomic
def write_version_hour(hour: datetime) -> None:
    """Count what each version did in an hour, for the first time or anew; older ones than are kept stay as they are."""
    if hour < timezone.now() - timedelta(days=settings.TRIAL_DAYS):
        return
    VersionHour.objects.filter(start=hour).delete()
    VersionHour.objects.bulk_create(
        VersionHour(version_id=version, start=start, is_shadow=is_shadow, counts=tally.to_json())
        for modality in Modality.values
        for start, version, is_shadow, tally in _count(modality, hour, hour + HOUR)
    )


def delete_old_hours(now: datetime) -> int:
    """Delete the hours that are older than what is kept of shadows; return how many."""
    return VersionHour.objects.filter(start__lt=now - timedelta(days=settings.TRIAL_DAYS)).delete()[0]


def _count(modality: str, since: datetime, until: datetime) -> list[VersionPeriod]:
    """Count a stretch of time, row by row."""
    if since >= until:
        return []
    tallies: dict[tuple[int, bool], VersionCounts] = defaultdict(VersionCounts)
    for is_shadow, counts, times in ((False, LIVE, LIVE_TIMES), (True, SHADOWS, SHADOW_TIMES)):
        for version, *numbers in _rows(counts, modality, since, until):
            tallies[version, is_shadow].add(VersionCounts(*numbers))
        for version, step, rows in _rows(times, modality, since, until):
            tallies[version, is_shadow].times[step] += rows
    faults = Fault.objects.filter(version__modality=modality, created_at__gte=since, created_at__lt=until)
    for version, failed in faults.values("version").annotate(rows=Sum("rows")).values_list("version", "rows"):
        tallies[version, False].failed += failed
    return [VersionPeriod(since, version, is_shadow, tally) for (version, is_shadow), tally in tallies.items()]


def _rows(query: str, modality: str, since: datetime, until: datetime) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query.format(modality=Modality(modality).value), [since, until])
        return list(cursor.fetchall())


def _summarised_to(since: datetime) -> datetime:
    """Return the end of the last hour that was summarised, or `since` where that is earlier or nothing was."""
    last = HealthSummary.objects.of(Period.HOUR).values_list("start", flat=True).first()
    return max(since, last + HOUR) if last else since


def _next_hour(at: datetime) -> datetime:
    """Return when the first whole hour begins."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    return hour if hour == at else hour + HOUR
