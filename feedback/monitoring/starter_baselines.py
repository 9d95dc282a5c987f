"""The reference of versions that no training snapshot speaks for, such as the starters: their first days at work."""

from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from classifier.models import Prediction
from feedback.models import DriftReference, HealthSummary, Period
from feedback.monitoring import baselines, windows
from feedback.monitoring.baselines import MAX_BASELINE_ROWS, VersionPair
from feedback.monitoring.hourly_summaries import PREDICTION
from feedback.statistics.drift.codes import DriftColumn
from feedback.statistics.drift.input_features import guess_language
from feedback.statistics.drift.summaries import FeatureBatch

FIRST_DAYS = timedelta(days=7)  # a week holds each weekday once
MIN_PREDICTIONS = 300  # predictions: with fewer, the days are added until there are as many
RECENT = timedelta(days=2)
REFERENCE_PHOTOS = 1_000


def create_missing_baselines(*, now: datetime | None = None) -> list[DriftReference]:
    """Make the references that are missing of pairs that answered in the last two days and are old enough."""
    now = now or timezone.now()
    at_work = HealthSummary.objects.of(Period.HOUR).filter(start__gte=now - RECENT, start__lt=now)
    pairs = set(at_work.order_by().values_list("text_version", "image_version").distinct()) - {(None, None)}
    known = set(DriftReference.objects.values_list("text_version", "image_version"))
    made = [_make(pair, now) for pair in sorted(pairs - known, key=str)]
    return [reference for reference in made if reference]


def _make(pair: VersionPair, now: datetime) -> DriftReference | None:
    days = HealthSummary.objects.of(Period.DAY).filter(text_version=pair[0], image_version=pair[1], start__lt=now)
    first, until, count = None, None, 0
    for start, done in days.order_by("start").values_list("start", "volume__done"):
        first = first or start
        count, until = count + done, start + timedelta(days=1)
        if until - first >= FIRST_DAYS and count >= MIN_PREDICTIONS:
            break
    else:
        return None
    if until > now:
        return None
    rows = Prediction.objects.finished().filter(
        _answered_by(pair),
        state=Prediction.State.DONE,
        finished_at__gte=first,
        finished_at__lt=until,
    )
    # Ids are random: those that come first are a fair sample.
    drawn = list(rows.order_by("pk").values_list(*PREDICTION, named=True)[:MAX_BASELINE_ROWS])
    if len(drawn) < MIN_PREDICTIONS:  # erased since
        return None
    ids = [str(row.pk) for row in drawn]
    spoken = [guess_language(f"{row.title} {row.description}") if row.title or row.description else "" for row in drawn]
    columns = windows.prediction_columns(drawn, spoken, {})
    numbers = {**columns.numbers, **windows.photos_of(ids, REFERENCE_PHOTOS)}
    categories = {**columns.categories, DriftColumn.LABEL: windows.labels_of(ids)}
    found = windows.embeddings_of(ids)
    return baselines.store_baseline(
        pair, FeatureBatch(ids, numbers, categories), found, origin=DriftReference.Origin.FIRST_DAYS
    )


def _answered_by(pair: VersionPair) -> Q:
    """Also what one of both answered alone: see `summarising.Partners`."""
    text, image = pair
    either = Q(text_version=text, image_version=image)
    if text:
        either |= Q(text_version=text, image_version=None)
    if image:
        either |= Q(text_version=None, image_version=image)
    return either
