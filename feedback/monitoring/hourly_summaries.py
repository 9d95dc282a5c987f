"""Count finished predictions by the hour, add hours up to days, and keep the counts of answers up to date."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import Case, Count, F, JSONField, Q, QuerySet, When
from django.db.models.functions import Trunc
from django.utils import timezone

from classifier.models import DistributionDetector, Modality, Prediction
from classifier.registry import traffic
from common.locks import Lock, try_lock
from feedback.experiments import counts
from feedback.models import Feedback, FeedbackQuerySet, HealthSummary, Period, Review
from feedback.models.answers import MEASURED
from feedback.monitoring import baselines, windows
from feedback.monitoring.baselines import Baseline, VersionPair
from feedback.statistics.counters import AnswerStatistics, PredictionCounts, seller_cohort
from feedback.statistics.drift.language import guess_language
from feedback.statistics.drift.summaries import DriftSummary

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GRACE_PERIOD = timedelta(minutes=2)  # after an hour's end, in which its last predictions are stored
ANSWER_OVERLAP = timedelta(minutes=1)  # an answer's time is a little earlier than its commit
OPEN_PERIOD = timedelta(days=30)  # in which later answers still change an hour
MAX_HOURS_PER_CALL = 48
MAX_STALE_HOURS_PER_CALL = 24
ROWS_PER_BATCH = 2_000
FAILED: VersionPair = (None, None)  # every hour has a row for it, also without a failure
PREDICTION_FIELDS = (
    "pk", "text_version_id", "image_version_id", "state", "created_at", "finished_at", "milliseconds", "title",
    "description", "photo_small", "top5__0__slug", "top5__0__probability", "unusual", "seller__date_joined",
)  # fmt: skip
ANSWER_FIELDS = (
    "prediction_id", "prediction__text_version_id", "prediction__image_version_id", "prediction__title",
    "prediction__description", "prediction__top5__0__slug", "prediction__top5__0__probability",
    "prediction__created_at", "prediction__seller__date_joined", "rank", "verdict", "final_slug", "review",
    "inclusion_probability", "text", "image",
)  # fmt: skip


@dataclass
class PairAccumulator:
    """The counts of one pair of versions in one hour."""

    volume: PredictionCounts = field(default_factory=PredictionCounts)
    answers: AnswerStatistics = field(default_factory=AnswerStatistics)
    baseline: Baseline | None = None
    drift: DriftSummary | None = None


def update_summaries(*, now: datetime | None = None, since: datetime | None = None) -> list[datetime]:
    """Write the summaries of hours that ended, and recount late answers; return the hours that were written.

    With `since` the hours from then on are counted again. Without it a call writes at most 48 hours and recounts the
    answers of at most 24, so that a backlog is reduced step by step. Nothing is written while another process does it.
    """
    now = now or timezone.now()
    with try_lock(Lock.HEALTH_SUMMARIES) as is_mine:
        if not is_mine:
            return []
        started = timezone.now()
        # Before any hour is written: a new hour's `answers_at` would hide answers that came before it.
        _mark_stale_hours(started)
        hours = []
        for hour in _hours_to_write(now, since):
            _write_hour(hour, started)
            hours.append(hour)
            # A day is added up when its last hour is written, so that a backlog doesn't add it up 24 times.
            if hour.hour == 23:
                _write_day(_start_of_day(hour), started)
        if hours and hours[-1].hour != 23:
            _write_day(_start_of_day(hours[-1]), started)
        _recount_stale_hours(started)
    return hours


def delete_old_hours(*, now: datetime | None = None) -> int:
    """Delete hours that later answers don't change any more, and those of old experiments; return how many rows.

    Days are kept.
    """
    now = now or timezone.now()
    old = HealthSummary.objects.of_period(Period.HOUR).filter(start__lt=_start_of_day(now - OPEN_PERIOD))
    return old.delete()[0] + counts.delete_old_hours(now)


def add_volumes(rows: Iterable[HealthSummary]) -> PredictionCounts:
    """Return the sum of the rows' counts of predictions."""
    total = PredictionCounts()
    for row in rows:
        total.add(PredictionCounts.from_json(row.volume))
    return total


def add_answers(rows: Iterable[HealthSummary]) -> AnswerStatistics:
    """Return the sum of the rows' statistics of answers."""
    total = AnswerStatistics()
    for row in rows:
        total.add(AnswerStatistics.from_json(row.answers))
    return total


class PartnerVersions:
    """Find the pair of versions to count a product with that only one model answered, having no text or no photo.

    It is the version's most frequent partner in the hour; without one, the pair that the hour was counted with before,
    or that of the live version. So a pair's figures describe all inputs, including those without a photo.
    """

    def __init__(self, hour: datetime) -> None:
        both = _finished_in(hour).filter(text_version__isnull=False, image_version__isnull=False)
        by_frequency = both.values_list("text_version", "image_version").annotate(rows=Count("pk")).order_by("rows")
        earlier = HealthSummary.objects.of_period(Period.HOUR).filter(start=hour)
        pairs = list(earlier.values_list("text_version", "image_version"))
        for text, image, _rows in by_frequency:
            pairs.append((text, image))
        self._live: VersionPair = (_main_live_version(Modality.TEXT), _main_live_version(Modality.IMAGE))
        self._image_partners: dict[int, int] = {}
        self._text_partners: dict[int, int] = {}
        # Later pairs replace earlier ones: the most frequent pair of the hour comes last.
        for text, image in pairs:
            if text and image:
                self._image_partners[text], self._text_partners[image] = image, text

    def find_pair(self, text: int | None, image: int | None) -> VersionPair:
        """Return the pair with a missing version filled in."""
        if text and not image:
            return text, self._image_partners.get(text, self._live[1])
        if image and not text:
            return self._text_partners.get(image, self._live[0]), image
        return text, image


def _hours_to_write(now: datetime, since: datetime | None) -> Iterator[datetime]:
    """Yield the hours from `since` on, or those after the last written one, or at first those of the open period."""
    times = Prediction.objects.finished().order_by("finished_at").values_list("finished_at", flat=True)
    first = times.first()
    if first is None:
        return
    last = HealthSummary.objects.of_period(Period.HOUR).values_list("start", flat=True).first()
    limit = None
    if since:
        hour = _start_of_hour(max(since, first))
    else:
        hour, limit = max(_start_of_hour(first), _start_of_day(now - OPEN_PERIOD)), MAX_HOURS_PER_CALL
        if last:
            hour = last + HOUR
    count = 0
    while hour + HOUR + GRACE_PERIOD <= now and (limit is None or count < limit):
        yield hour
        hour, count = hour + HOUR, count + 1


def _write_hour(hour: datetime, started: datetime) -> None:
    accumulators: dict[VersionPair, PairAccumulator] = {FAILED: PairAccumulator()}
    if _finished_in(hour).exists():
        partners = PartnerVersions(hour)
        _count_predictions(hour, accumulators, partners)
        _count_answers(hour, accumulators, partners)
    rows = []
    for pair, found in accumulators.items():
        if found.drift and found.baseline:
            found.drift = windows.add_sampled_details(found.drift, found.baseline)
        rows.append(_summary_row(Period.HOUR, hour, started, pair, found))
    # Both are replaced together: a page must not read the new counts of one beside the old counts of the other.
    with transaction.atomic():
        _replace_rows(Period.HOUR, hour, rows)
        counts.write_version_hour(hour)


def _main_live_version(modality: Modality) -> int | None:
    """Return the live version with the largest share of traffic."""
    variants = sorted(traffic.live_variants(modality), key=lambda variant: -variant.weight)
    return variants[0].version_id if variants else None


def _finished_in(hour: datetime) -> QuerySet[Prediction]:
    return Prediction.objects.finished().filter(finished_at__gte=hour, finished_at__lt=hour + HOUR).order_by()


def _count_predictions(
    hour: datetime, accumulators: dict[VersionPair, PairAccumulator], partners: PartnerVersions
) -> None:
    detectors = dict(DistributionDetector.objects.values_list("version_id", "created_at"))
    rows = _finished_in(hour).values_list(*PREDICTION_FIELDS, named=True).iterator(chunk_size=ROWS_PER_BATCH)
    while batch := list(islice(rows, ROWS_PER_BATCH)):
        by_pair = defaultdict(list)
        for row in batch:
            pair = FAILED
            if row.state == Prediction.State.DONE:
                pair = partners.find_pair(row.text_version_id, row.image_version_id)
            by_pair[pair].append(row)
        for pair, some in by_pair.items():
            if pair not in accumulators:
                accumulators[pair] = PairAccumulator(baseline=baselines.load_baseline(pair))
            _add_predictions(some, accumulators[pair], detectors)


def _add_predictions(rows: Sequence[Any], found: PairAccumulator, detectors: Mapping[int, datetime]) -> None:
    volume, languages = found.volume, []
    for row in rows:
        language = guess_language(f"{row.title} {row.description}") if row.title or row.description else ""
        languages.append(language)
        if row.state != Prediction.State.DONE:
            volume.failed += 1
            continue
        volume.done += 1
        volume.wait.add_duration((row.finished_at - row.created_at).total_seconds() * 1000)
        if row.milliseconds is not None:
            volume.compute.add_duration(row.milliseconds)
        if row.unusual or _could_be_judged(row, detectors):
            volume.unusual[row.unusual] += 1
        volume.by_breakdown["language"][language] += 1
        volume.by_breakdown["cohort"][seller_cohort(row.seller__date_joined, row.created_at)] += 1
        if row.top5__0__slug:
            volume.by_breakdown["category"][row.top5__0__slug] += 1
            volume.add_confidence(row.top5__0__probability)
    if found.baseline:
        window = windows.summarise_window(rows, languages, found.baseline)
        found.drift = found.drift.merge(window) if found.drift else window


def _could_be_judged(row: Any, detectors: Mapping[int, datetime]) -> bool:
    """Return whether a version that answered had a detector by then; `detectors` are creation times by version."""
    for version in (row.text_version_id, row.image_version_id):
        if version in detectors and detectors[version] <= row.finished_at:
            return True
    return False


def _count_answers(hour: datetime, accumulators: dict[VersionPair, PairAccumulator], partners: PartnerVersions) -> None:
    in_hour = Feedback.objects.filter(
        prediction__state=Prediction.State.DONE,
        prediction__finished_at__gte=hour,
        prediction__finished_at__lt=hour + HOUR,
    ).exclude(review__in=windows.UNRELIABLE_REVIEWS)
    for row in _select_answers(in_hour).iterator(chunk_size=ROWS_PER_BATCH):
        pair = partners.find_pair(row.prediction__text_version_id, row.prediction__image_version_id)
        found = accumulators.setdefault(pair, PairAccumulator())
        text = f"{row.prediction__title} {row.prediction__description}".strip()
        found.answers.add_answer(
            str(row.prediction_id),
            given=row.prediction__top5__0__slug or "",
            confidence=row.prediction__top5__0__probability or 0.0,
            language=guess_language(text) if text else "",
            cohort=seller_cohort(row.prediction__seller__date_joined, row.prediction__created_at),
            rank=row.rank,
            is_none=row.verdict == Feedback.Verdict.NONE,
            chosen=row.final_slug,
            is_reviewed=row.review in MEASURED,
            inclusion_probability=row.inclusion_probability,
            best=_best_of_each_model(row),
        )


def _best_of_each_model(row: Any) -> dict[str, str]:
    best = {}
    for name, probabilities in (("text", row.text), ("image", row.image)):
        if probabilities:
            best[name] = max(probabilities, key=probabilities.get)
    return best


def _select_answers(rows: FeedbackQuerySet) -> Any:
    """Select answers with each model's probabilities, which are long and needed for reviewed answers alone."""
    reviewed = Q(review__in=MEASURED)
    probabilities = {}
    for name in ("text", "image"):
        field_of_model = F(f"prediction__{name}_probabilities")
        probabilities[name] = Case(When(reviewed, then=field_of_model), output_field=JSONField(null=True))
    return rows.with_final().annotate(**probabilities).order_by().values_list(*ANSWER_FIELDS, named=True)


def _mark_stale_hours(started: datetime) -> None:
    """Mark each open hour whose products were answered or reviewed since the last call."""
    last = (
        HealthSummary.objects.of_period(Period.HOUR)
        .order_by("-answers_at")
        .values_list("answers_at", flat=True)
        .first()
    )
    if last is None:
        return
    since = last - ANSWER_OVERLAP
    oldest = HealthSummary.objects.of_period(Period.HOUR).order_by("start").values_list("start", flat=True)[0]
    changed = Feedback.objects.filter(
        Q(answered_at__gte=since)
        | Q(reviewed_at__gte=since)
        # An undone review leaves no time on the answer itself.
        | Q(pk__in=Review.objects.filter(undone_at__gte=since).values("feedback")),
        prediction__finished_at__gte=max(oldest, _start_of_day(started - OPEN_PERIOD)),
    ).order_by()
    hours: set[datetime] = set()
    # A shadow version may have run in a later hour than the live ones; its counts change too.
    for at in ("prediction__finished_at", "prediction__shadows__created_at"):
        hours.update(changed.annotate(hour=Trunc(at, "hour")).values_list("hour", flat=True).distinct())
    HealthSummary.objects.of_period(Period.HOUR).filter(start__in=hours).update(is_stale=True)


def _recount_stale_hours(started: datetime) -> None:
    """Count the answers of stale hours again, those first that were counted longest ago, each day with its hours."""
    stale = HealthSummary.objects.of_period(Period.HOUR).filter(is_stale=True).order_by("answers_at", "-start")
    hours = list(dict.fromkeys(stale.values_list("start", flat=True)))[:MAX_STALE_HOURS_PER_CALL]
    by_day: dict[datetime, list[datetime]] = defaultdict(list)
    for hour in hours:
        by_day[_start_of_day(hour)].append(hour)
    for day, some in by_day.items():
        # One transaction a day, so that the day is the sum of its hours at any time.
        with transaction.atomic():
            for hour in some:
                _recount_answers(hour, started)
            for pair, rows in _by_pair(_hours_of(day).only("text_version", "image_version", "answers")).items():
                whole = HealthSummary.objects.of_period(Period.DAY).filter(
                    start=day, text_version=pair[0], image_version=pair[1]
                )
                whole.update(answers=add_answers(rows).to_json(), answers_at=started)


def _recount_answers(hour: datetime, started: datetime) -> None:
    accumulators: dict[VersionPair, PairAccumulator] = {}
    _count_answers(hour, accumulators, PartnerVersions(hour))
    for row in HealthSummary.objects.of_period(Period.HOUR).filter(start=hour).only("text_version", "image_version"):
        found = accumulators.get((row.text_version_id, row.image_version_id), PairAccumulator())
        HealthSummary.objects.filter(pk=row.pk).update(
            answers=found.answers.to_json(), answers_at=started, is_stale=False
        )
    counts.write_version_hour(hour)


def _write_day(day: datetime, started: datetime) -> None:
    rows = []
    for pair, hours in _by_pair(_hours_of(day)).items():
        total = PairAccumulator(add_volumes(hours), add_answers(hours), drift=_merge_drift(hours))
        rows.append(_summary_row(Period.DAY, day, started, pair, total))
    _replace_rows(Period.DAY, day, rows)


def _merge_drift(hours: Sequence[HealthSummary]) -> DriftSummary | None:
    """Merge the drift summaries of the hours that have the bins of the last one."""
    summaries = [DriftSummary.from_json(hour.drift) for hour in hours if hour.drift]
    whole: DriftSummary | None = None
    for summary in summaries:
        # A baseline that was replaced during the day has other bins, which can't be merged.
        if summary.layout == summaries[-1].layout:
            whole = whole.merge(summary) if whole else summary
    return whole


def _hours_of(day: datetime) -> QuerySet[HealthSummary]:
    return HealthSummary.objects.of_period(Period.HOUR).filter(start__gte=day, start__lt=day + DAY).order_by("start")


def _by_pair(rows: QuerySet[HealthSummary]) -> Mapping[VersionPair, list[HealthSummary]]:
    pairs: dict[VersionPair, list[HealthSummary]] = defaultdict(list)
    for row in rows:
        pairs[(row.text_version_id, row.image_version_id)].append(row)
    return pairs


def _summary_row(
    period: Period, start: datetime, started: datetime, pair: VersionPair, found: PairAccumulator
) -> HealthSummary:
    return HealthSummary(
        period=period,
        start=start,
        text_version_id=pair[0],
        image_version_id=pair[1],
        volume=found.volume.to_json(),
        answers=found.answers.to_json(),
        drift=found.drift.to_json() if found.drift else None,
        answers_at=started,
    )


@transaction.atomic
def _replace_rows(period: Period, start: datetime, rows: Sequence[HealthSummary]) -> None:
    HealthSummary.objects.of_period(period).filter(start=start).delete()
    HealthSummary.objects.bulk_create(rows)


def _start_of_hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _start_of_day(at: datetime) -> datetime:
    return _start_of_hour(at).replace(hour=0)
