"""Make baselines from the first days in use, for versions without a training dataset such as the starters."""

from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from classifier.models import Prediction
from feedback.models import DriftReference, HealthSummary, Period
from feedback.monitoring import baselines, windows
from feedback.monitoring.baselines import MAX_BASELINE_ROWS, VersionPair
from feedback.monitoring.hourly_summaries import PREDICTION_FIELDS
from feedback.statistics.drift.codes import DriftColumn
from feedback.statistics.drift.language import guess_language
from feedback.statistics.drift.summaries import FeatureBatch

FIRST_DAYS = timedelta(days=7)  # a whole week, because weekdays differ
MIN_PREDICTIONS = 300  # with fewer, further days are added
RECENT = timedelta(days=2)
REFERENCE_PHOTOS = 1_000


def create_missing_baselines(*, now: datetime | None = None) -> list[DriftReference]:
    """Make the missing baselines of pairs that answered in the last two days and have been in use long enough."""
    now = now or timezone.now()
    recent = HealthSummary.objects.of_period(Period.HOUR).filter(start__gte=now - RECENT, start__lt=now)
    pairs = set(recent.order_by().values_list("text_version", "image_version").distinct()) - {(None, None)}
    known = set(DriftReference.objects.values_list("text_version", "image_version"))
    made = [_create_baseline(pair, now) for pair in sorted(pairs - known, key=str)]
    return [reference for reference in made if reference]


def _create_baseline(pair: VersionPair, now: datetime) -> DriftReference | None:
    days = HealthSummary.objects.of_period(Period.DAY).filter(
        text_version=pair[0], image_version=pair[1], start__lt=now
    )
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
    # Ids are random, so the first ones in their order are a random sample.
    drawn = list(rows.order_by("pk").values_list(*PREDICTION_FIELDS, named=True)[:MAX_BASELINE_ROWS])
    # Predictions may have been erased since their day was counted.
    if len(drawn) < MIN_PREDICTIONS:
        return None
    ids = [str(row.pk) for row in drawn]
    languages = [
        guess_language(f"{row.title} {row.description}") if row.title or row.description else "" for row in drawn
    ]
    columns = windows.prediction_columns(drawn, languages, {})
    numbers = {**columns.numbers, **windows.photos_of(ids, REFERENCE_PHOTOS)}
    categories = {**columns.categories, DriftColumn.LABEL: windows.labels_of(ids)}
    found = windows.embeddings_of(ids)
    return baselines.store_baseline(
        pair, FeatureBatch(ids, numbers, categories), found, origin=DriftReference.Origin.FIRST_DAYS
    )


def _answered_by(pair: VersionPair) -> Q:
    """Select what both versions answered, or one of them alone: see `hourly_summaries.PartnerVersions`."""
    text, image = pair
    either = Q(text_version=text, image_version=image)
    if text:
        either |= Q(text_version=text, image_version=None)
    if image:
        either |= Q(text_version=None, image_version=image)
    return either
