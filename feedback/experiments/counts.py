"""Count what each version answered, how sellers and reviewers judged it, and how long it took, by hours."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self

from django.conf import settings
from django.db import transaction
from django.db.models import Q, Sum
from django.utils import timezone

from classifier.models import Fault, Modality, Prediction, ShadowAnswer
from common.sql import fetch_rows, load_query
from feedback.models import HealthSummary, Period, VersionHour
from feedback.models.answers import MEASURED
from feedback.statistics.counters import BINS_PER_DOUBLING, DurationHistogram
from feedback.statistics.proportions import Proportion

HOUR = timedelta(hours=1)
CHART_POINTS = 12
LIVE_COUNTED = 2 * HOUR  # at most this much is counted while a page is requested

LIVE_COUNTS = load_query(__file__, "live_counts")
LIVE_TIMES = load_query(__file__, "live_times")
SHADOW_COUNTS = load_query(__file__, "shadow_counts")
SHADOW_TIMES = load_query(__file__, "shadow_times")


@dataclass(frozen=True)
class LiveCountsRow:
    """A row of live_counts.sql."""

    version_id: int
    answered: int
    answers: int
    first: int
    five: int
    reviewed: int
    right: int


@dataclass(frozen=True)
class ShadowCountsRow:
    """A row of shadow_counts.sql."""

    version_id: int
    answered: int
    failed: int
    reviewed: int
    right: int
    compared: int
    agreed: int


@dataclass(frozen=True)
class TimesRow:
    """A row of live_times.sql or shadow_times.sql: how many rows have a computing time in one bin."""

    version_id: int
    step: int
    rows: int


@dataclass
class VersionCounts:
    """What one version did in a period, as sums that add up. The field names are keys of the stored JSON.

    `answered` and `failed` count products; `answers` what sellers chose, `first` and `five` those whose choice was the
    first suggestion or any of the five; `right` counts, of the `reviewed` answers, those for which the model alone
    found the final category likeliest. A shadow was `compared` with the live model and `agreed`. `times` holds a
    product's share of its batch's computing time.
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
    def first_choice_share(self) -> Proportion:
        return Proportion(self.first, self.answers)

    @property
    def top5_share(self) -> Proportion:
        return Proportion(self.five, self.answers)

    @property
    def accuracy(self) -> Proportion:
        return Proportion(self.right, self.reviewed)

    @property
    def agreement(self) -> Proportion:
        return Proportion(self.agreed, self.compared)

    @property
    def error_rate(self) -> Proportion:
        return Proportion(self.failed, self.answered + self.failed)

    def add(self, other: "VersionCounts") -> None:
        for name, value in other._counts().items():
            setattr(self, name, getattr(self, name) + value)
        self.times.update(other.times)

    def to_json(self) -> dict[str, Any]:
        return {**self._counts(), "times": dict(self.times)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        times = DurationHistogram({int(step): rows for step, rows in content["times"].items()})
        return cls(**{**content, "times": times})

    def _counts(self) -> dict[str, int]:
        return {name: value for name, value in vars(self).items() if name != "times"}


@dataclass(frozen=True)
class VersionPeriod:
    """The counts of one version from `start` on: for an hour, or for part of one."""

    start: datetime
    version: int
    is_shadow: bool
    counts: VersionCounts


def read_version_periods(modality: str, since: datetime, now: datetime) -> list[VersionPeriod]:
    """Return the counts of each version of a modality since then, in order of time.

    Stored hours are read. The rest of the first hour, and what came after the last stored one, is counted row by row;
    of the latter at most the newest two hours (see `find_uncounted_period`).
    """
    summarised_until = _end_of_summaries(since)
    # Without stored hours both ends are `since`, and only the last part below is counted.
    first_hour = min(_next_hour(since), summarised_until)
    stored = VersionHour.objects.filter(version__modality=modality, start__gte=first_hour, start__lt=summarised_until)
    return [
        *_count_period(modality, since, first_hour),
        *(_from_row(row) for row in stored),
        *_count_period(modality, max(summarised_until, now - LIVE_COUNTED), now),
    ]


def find_uncounted_period(since: datetime, now: datetime) -> tuple[datetime, datetime] | None:
    """Return the period that `read_version_periods` leaves out for lack of summaries; None if there is none."""
    begin, end = _end_of_summaries(since), now - LIVE_COUNTED
    if begin >= end:
        return None
    missed = Prediction.objects.finished().filter(finished_at__gte=begin, finished_at__lt=end)
    return (begin, end) if missed.exists() else None


def count_stale_hours(since: datetime) -> int:
    """Return how many hours since then wait to be counted again, because of later answers or reviews."""
    stale = HealthSummary.objects.of_period(Period.HOUR).filter(is_stale=True, start__gte=since)
    return stale.values("start").distinct().count()


def sum_by_version(periods: Iterable[VersionPeriod], *, is_shadow: bool) -> dict[int, VersionCounts]:
    """Return the total of each version's periods, either as a live version or as a shadow."""
    totals: dict[int, VersionCounts] = defaultdict(VersionCounts)
    for period in periods:
        if period.is_shadow == is_shadow:
            totals[period.version].add(period.counts)
    return dict(totals)


def first_choice_over_time(
    periods: Iterable[VersionPeriod], since: datetime, until: datetime
) -> dict[int, list[tuple[datetime, Proportion]]]:
    """Return for each live version how often sellers chose its first suggestion, at points of time for a chart."""
    step = max((until - since) / CHART_POINTS, HOUR)
    slices: dict[int, dict[int, VersionCounts]] = defaultdict(lambda: defaultdict(VersionCounts))
    for period in periods:
        if not period.is_shadow:
            slices[period.version][(period.start - since) // step].add(period.counts)
    curves: dict[int, list[tuple[datetime, Proportion]]] = {}
    for version, counts_by_slice in slices.items():
        curves[version] = []
        for number, counts in sorted(counts_by_slice.items()):
            middle = min(since + (number + 0.5) * step, until)
            curves[version].append((middle, counts.first_choice_share))
    return curves


@transaction.atomic
def write_version_hour(hour: datetime) -> None:
    """Count what each version did in an hour and store it, replacing earlier counts; hours too old to keep stay."""
    if hour < timezone.now() - timedelta(days=settings.TRIAL_DAYS):
        return
    # Replaced as a whole, within the transaction: a version may have left the hour since it was counted last.
    VersionHour.objects.filter(start=hour).delete()
    # Many hours of a small shop are empty: looking for rows first is cheaper than ten counts of none.
    if not _has_activity(hour, hour + HOUR):
        return
    for modality in Modality.values:
        VersionHour.objects.bulk_create(_to_row(period) for period in _count_period(modality, hour, hour + HOUR))


def delete_old_hours(now: datetime) -> int:
    """Delete the hours older than `TRIAL_DAYS`, as long as shadow answers are kept; return how many."""
    return VersionHour.objects.filter(start__lt=now - timedelta(days=settings.TRIAL_DAYS)).delete()[0]


def _has_activity(since: datetime, until: datetime) -> bool:
    """Return whether any version answered, or failed, in a period."""
    created = Q(created_at__gte=since, created_at__lt=until)
    finished = Prediction.objects.finished().filter(finished_at__gte=since, finished_at__lt=until)
    return finished.exists() or ShadowAnswer.objects.filter(created).exists() or Fault.objects.filter(created).exists()


def _count_period(modality: str, since: datetime, until: datetime) -> list[VersionPeriod]:
    """Count a period row by row."""
    if since >= until:
        return []
    period = {"modality": Modality(modality).value, "since": since, "until": until}
    counting = {**period, "measured": list(MEASURED)}
    timing = {**period, "bins_per_doubling": BINS_PER_DOUBLING}
    live: dict[int, VersionCounts] = defaultdict(VersionCounts)
    shadows: dict[int, VersionCounts] = defaultdict(VersionCounts)
    for live_row in fetch_rows(LIVE_COUNTS, counting, LiveCountsRow):
        live[live_row.version_id].add(_to_counts(live_row))
    for shadow_row in fetch_rows(SHADOW_COUNTS, counting, ShadowCountsRow):
        shadows[shadow_row.version_id].add(_to_counts(shadow_row))
    # The database forms the bins: there is one row for each bin, and not for each prediction.
    for counts, query in ((live, LIVE_TIMES), (shadows, SHADOW_TIMES)):
        for row in fetch_rows(query, timing, TimesRow):
            counts[row.version_id].times[row.step] += row.rows
    faults = Fault.objects.filter(version__modality=modality, created_at__gte=since, created_at__lt=until)
    for version, failed in faults.values("version").annotate(rows=Sum("rows")).values_list("version", "rows"):
        live[version].failed += failed
    periods = []
    for is_shadow, counts in ((False, live), (True, shadows)):
        for version, version_counts in counts.items():
            periods.append(VersionPeriod(since, version, is_shadow, version_counts))
    return periods


def _to_counts(row: LiveCountsRow | ShadowCountsRow) -> VersionCounts:
    columns = asdict(row)
    del columns["version_id"]
    return VersionCounts(**columns)


def _from_row(row: VersionHour) -> VersionPeriod:
    return VersionPeriod(row.start, row.version_id, row.is_shadow, VersionCounts.from_json(row.counts))


def _to_row(period: VersionPeriod) -> VersionHour:
    return VersionHour(
        version_id=period.version,
        start=period.start,
        is_shadow=period.is_shadow,
        counts=period.counts.to_json(),
    )


def _end_of_summaries(since: datetime) -> datetime:
    """Return the end of the last summarised hour, or `since` where that is earlier or there is none."""
    last = HealthSummary.objects.of_period(Period.HOUR).values_list("start", flat=True).first()
    return max(since, last + HOUR) if last else since


def _next_hour(at: datetime) -> datetime:
    """Return the start of the first whole hour that does not begin before `at`."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    return hour if hour == at else hour + HOUR
