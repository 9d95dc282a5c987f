"""Predictions become summaries: each hour once it is over, days by adding up hours, answers whenever they come."""

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
from feedback.statistics.drift.input_features import guess_language
from feedback.statistics.drift.summaries import DriftSummary

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GRACE = timedelta(minutes=2)  # for the last answers of an hour to be stored
OVERLAP = timedelta(minutes=1)  # an answer's time is a little older than its commit
OPEN = timedelta(days=30)  # how long later answers still change an hour
MOST_HOURS = 48  # that one call summarises
MOST_STALE = 24  # hours whose answers one call counts anew
AT_ONCE = 2_000  # rows
FAILED: VersionPair = (None, None)  # whose row an hour always has
PREDICTION = (
    "pk", "text_version_id", "image_version_id", "state", "created_at", "finished_at", "milliseconds", "title",
    "description", "photo_small", "top5__0__slug", "top5__0__probability", "unusual", "seller__date_joined",
)  # fmt: skip
ANSWER = (
    "prediction_id", "prediction__text_version_id", "prediction__image_version_id", "prediction__title",
    "prediction__description", "prediction__top5__0__slug", "prediction__top5__0__probability",
    "prediction__created_at", "prediction__seller__date_joined", "rank", "verdict", "final_slug", "review",
    "inclusion_probability", "text", "image",
)  # fmt: skip


@dataclass
class PairAccumulator:
    """What is known of one pair in one hour."""

    volume: PredictionCounts = field(default_factory=PredictionCounts)
    answers: AnswerStatistics = field(default_factory=AnswerStatistics)
    reference: Baseline | None = None
    drift: DriftSummary | None = None


def update_summaries(*, now: datetime | None = None, since: datetime | None = None) -> list[datetime]:
    """Bring the summaries up to date; return the hours that were written for the first time or, with `since`, anew.

    A call without `since` writes at most 48 hours and counts the answers of at most 24 anew, so that a backlog is
    worked off bit by bit. While another process is at it nothing is written.
    """
    now = now or timezone.now()
    with try_lock(Lock.HEALTH_SUMMARIES) as is_mine:
        if not is_mine:
            return []
        started = timezone.now()
        _mark_stale(started)
        hours = []
        for hour in _hours(now, since):
            _write_hour(hour, started)
            hours.append(hour)
            # A day is added up when its hours are there, so that a backlog doesn't add it up 24 times.
            if hour.hour == 23:
                _write_day(_day(hour), started)
        if hours and hours[-1].hour != 23:
            _write_day(_day(hours[-1]), started)
        _count_stale(started)
    return hours


def delete_old_hours(*, now: datetime | None = None) -> int:
    """Delete the hours that later answers change no more, and those of old trials; days stay. Return how many rows."""
    now = now or timezone.now()
    old = HealthSummary.objects.of(Period.HOUR).filter(start__lt=_day(now - OPEN))
    return old.delete()[0] + counts.delete_old_hours(now)


def _hours(now: datetime, since: datetime | None) -> Iterator[datetime]:
    """Yield what to write: the hours from `since` on, or those after the last one, or at first the open ones."""
    times = Prediction.objects.finished().order_by("finished_at").values_list("finished_at", flat=True)
    first = times.first()
    if first is None:
        return
    last = HealthSummary.objects.of(Period.HOUR).values_list("start", flat=True).first()
    if since:
        hour, most = _hour(max(since, first)), None
    else:
        hour, most = last + HOUR if last else max(_hour(first), _day(now - OPEN)), MOST_HOURS
    count = 0
    while hour + HOUR + GRACE <= now and (most is None or count < most):
        yield hour
        hour, count = hour + HOUR, count + 1


def _write_hour(hour: datetime, started: datetime) -> None:
    heaps: dict[VersionPair, PairAccumulator] = {FAILED: PairAccumulator()}
    if _finished(hour).exists():
        partners = Partners(hour)
        _count_predictions(hour, heaps, partners)
        _count_answers(hour, heaps, partners)
    for heap in heaps.values():
        if heap.drift and heap.reference:
            heap.drift = windows.add_sampled_details(heap.drift, heap.reference)
    rows = [
        _row(Period.HOUR, hour, started, pair, heap.volume, heap.answers, heap.drift) for pair, heap in heaps.items()
    ]
    with transaction.atomic():
        _store(Period.HOUR, hour, rows)
        counts.write_version_hour(hour)


class Partners:
    """Which pair a product belongs to that only one model answered, for want of a text or a photograph.

    That of its version's commonest partner in the hour; where there is none, the pair that it was counted with before,
    or that of the version that is live. So a pair's figures tell of all inputs, and of how many lack a photograph.
    """

    def __init__(self, hour: datetime) -> None:
        counted = _finished(hour).filter(text_version__isnull=False, image_version__isnull=False)
        commonest = counted.values_list("text_version", "image_version").annotate(rows=Count("pk")).order_by("rows")
        earlier = HealthSummary.objects.of(Period.HOUR).filter(start=hour)
        self._live: VersionPair = (_live(Modality.TEXT), _live(Modality.IMAGE))
        self._known: tuple[dict[int | None, int], dict[int | None, int]] = ({}, {})
        for text, image in [
            *earlier.values_list("text_version", "image_version"),
            *((text, image) for text, image, _rows in commonest),
        ]:
            if text and image:
                self._known[0][text], self._known[1][image] = image, text

    def pair(self, text: int | None, image: int | None) -> VersionPair:
        if text and not image:
            return text, self._known[0].get(text, self._live[1])
        if image and not text:
            return self._known[1].get(image, self._live[0]), image
        return text, image


def _live(modality: Modality) -> int | None:
    """Return the version with most of the traffic."""
    variants = sorted(traffic.live_variants(modality), key=lambda variant: -variant.weight)
    return variants[0].version_id if variants else None


def _finished(hour: datetime) -> QuerySet[Prediction]:
    return Prediction.objects.finished().filter(finished_at__gte=hour, finished_at__lt=hour + HOUR).order_by()


def _count_predictions(hour: datetime, heaps: dict[VersionPair, PairAccumulator], partners: Partners) -> None:
    finished = _finished(hour)
    learnt = dict(DistributionDetector.objects.values_list("version_id", "created_at"))
    rows = finished.values_list(*PREDICTION, named=True).iterator(chunk_size=AT_ONCE)
    while batch := list(islice(rows, AT_ONCE)):
        by_pair = defaultdict(list)
        for row in batch:
            is_done = row.state == Prediction.State.DONE
            by_pair[partners.pair(row.text_version_id, row.image_version_id) if is_done else FAILED].append(row)
        for pair, some in by_pair.items():
            if pair not in heaps:
                heaps[pair] = PairAccumulator(reference=baselines.load_baseline(pair))
            _count(some, heaps[pair], learnt)


def _count(rows: Sequence[Any], heap: PairAccumulator, learnt: Mapping[int, datetime]) -> None:
    volume, languages = heap.volume, []
    for row in rows:
        spoken = guess_language(f"{row.title} {row.description}") if row.title or row.description else ""
        languages.append(spoken)
        if row.state != Prediction.State.DONE:
            volume.failed += 1
            continue
        volume.done += 1
        volume.wait.note((row.finished_at - row.created_at).total_seconds() * 1000)
        if row.milliseconds is not None:
            volume.compute.note(row.milliseconds)
        if row.unusual or _could_judge(row, learnt):
            volume.unusual[row.unusual] += 1
        volume.by["language"][spoken] += 1
        volume.by["cohort"][seller_cohort(row.seller__date_joined, row.created_at)] += 1
        if row.top5__0__slug:
            volume.by["category"][row.top5__0__slug] += 1
            volume.sure(row.top5__0__probability)
    if heap.reference:
        some = windows.summarise_window(rows, languages, heap.reference)
        heap.drift = heap.drift.merge(some) if heap.drift else some


def _could_judge(row: Any, learnt: Mapping[int, datetime]) -> bool:
    """Whether a model that answered had learnt by then what is familiar to it: {version: since when}."""
    answered = (row.text_version_id, row.image_version_id)
    return any(learnt[version] <= row.finished_at for version in answered if version in learnt)


def _count_answers(hour: datetime, heaps: dict[VersionPair, PairAccumulator], partners: Partners) -> None:
    in_hour = Feedback.objects.filter(
        prediction__state=Prediction.State.DONE,
        prediction__finished_at__gte=hour,
        prediction__finished_at__lt=hour + HOUR,
    ).exclude(review__in=windows.DOUBTED)
    for row in _answers(in_hour).iterator(chunk_size=AT_ONCE):
        pair = partners.pair(row.prediction__text_version_id, row.prediction__image_version_id)
        heap = heaps.setdefault(pair, PairAccumulator())
        text = f"{row.prediction__title} {row.prediction__description}".strip()
        best = {name: max(said, key=said.get) for name, said in (("text", row.text), ("image", row.image)) if said}
        heap.answers.note(
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
            best=best,
        )


def _answers(rows: FeedbackQuerySet) -> Any:
    """Return answers with what each model said by itself, which only reviewed ones need."""
    reviewed = Q(review__in=MEASURED)
    said = {
        name: Case(When(reviewed, then=F(f"prediction__{name}_probabilities")), output_field=JSONField(null=True))
        for name in ("text", "image")
    }
    return rows.with_final().annotate(**said).order_by().values_list(*ANSWER, named=True)


def _mark_stale(started: datetime) -> None:
    """Mark each open hour about whose products somebody said something since the last time."""
    last = HealthSummary.objects.of(Period.HOUR).order_by("-answers_at").values_list("answers_at", flat=True).first()
    if last is None:
        return
    since = last - OVERLAP
    oldest = HealthSummary.objects.of(Period.HOUR).order_by("start").values_list("start", flat=True)[0]
    said = Feedback.objects.filter(
        Q(answered_at__gte=since)
        | Q(reviewed_at__gte=since)
        | Q(pk__in=Review.objects.filter(undone_at__gte=since).values("feedback")),
        prediction__finished_at__gte=max(oldest, _day(started - OPEN)),
    ).order_by()
    hours: set[datetime] = set()
    for at in ("prediction__finished_at", "prediction__shadows__created_at"):
        hours.update(said.annotate(hour=Trunc(at, "hour")).values_list("hour", flat=True).distinct())
    HealthSummary.objects.of(Period.HOUR).filter(start__in=hours).update(is_stale=True)


def _count_stale(started: datetime) -> None:
    """Count the answers of stale hours anew, those first that were counted longest ago, each day with its hours."""
    stale = HealthSummary.objects.of(Period.HOUR).filter(is_stale=True).order_by("answers_at", "-start")
    hours = list(dict.fromkeys(stale.values_list("start", flat=True)))[:MOST_STALE]
    by_day: dict[datetime, list[datetime]] = defaultdict(list)
    for hour in hours:
        by_day[_day(hour)].append(hour)
    for day, some in by_day.items():
        with transaction.atomic():
            for hour in some:
                _count_anew(hour, started)
            for pair, rows in _by_pair(_of_day(day).only("text_version", "image_version", "answers")).items():
                whole = HealthSummary.objects.of(Period.DAY).filter(
                    start=day, text_version=pair[0], image_version=pair[1]
                )
                whole.update(answers=add_answers(rows).to_json(), answers_at=started)


def _count_anew(hour: datetime, started: datetime) -> None:
    heaps: dict[VersionPair, PairAccumulator] = {}
    _count_answers(hour, heaps, Partners(hour))
    for row in HealthSummary.objects.of(Period.HOUR).filter(start=hour).only("text_version", "image_version"):
        heap = heaps.get((row.text_version_id, row.image_version_id), PairAccumulator())
        HealthSummary.objects.filter(pk=row.pk).update(
            answers=heap.answers.to_json(), answers_at=started, is_stale=False
        )
    counts.write_version_hour(hour)


def _write_day(day: datetime, started: datetime) -> None:
    rows = []
    for pair, hours in _by_pair(_of_day(day)).items():
        drift = [DriftSummary.from_json(hour.drift) for hour in hours if hour.drift]
        same = [each for each in drift if each.layout == drift[-1].layout]  # a new reference has other bins
        whole = same[0] if same else None
        for each in same[1:]:
            whole = whole.merge(each) if whole else each
        rows.append(_row(Period.DAY, day, started, pair, add_volumes(hours), add_answers(hours), whole))
    _store(Period.DAY, day, rows)


def add_volumes(rows: Iterable[HealthSummary]) -> PredictionCounts:
    total = PredictionCounts()
    for row in rows:
        total.add(PredictionCounts.from_json(row.volume))
    return total


def add_answers(rows: Iterable[HealthSummary]) -> AnswerStatistics:
    total = AnswerStatistics()
    for row in rows:
        total.add(AnswerStatistics.from_json(row.answers))
    return total


def _of_day(day: datetime) -> QuerySet[HealthSummary]:
    return HealthSummary.objects.of(Period.HOUR).filter(start__gte=day, start__lt=day + DAY).order_by("start")


def _by_pair(rows: QuerySet[HealthSummary]) -> Mapping[VersionPair, list[HealthSummary]]:
    pairs: dict[VersionPair, list[HealthSummary]] = defaultdict(list)
    for row in rows:
        pairs[(row.text_version_id, row.image_version_id)].append(row)
    return pairs


def _row(
    period: Period,
    start: datetime,
    started: datetime,
    pair: VersionPair,
    volume: PredictionCounts,
    answers: AnswerStatistics,
    drift: DriftSummary | None,
) -> HealthSummary:
    return HealthSummary(
        period=period,
        start=start,
        text_version_id=pair[0],
        image_version_id=pair[1],
        volume=volume.to_json(),
        answers=answers.to_json(),
        drift=drift.to_json() if drift else None,
        answers_at=started,
    )


@transaction.atomic
def _store(period: Period, start: datetime, rows: Sequence[HealthSummary]) -> None:
    HealthSummary.objects.of(period).filter(start=start).delete()
    HealthSummary.objects.bulk_create(rows)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _day(at: datetime) -> datetime:
    return _hour(at).replace(hour=0)
