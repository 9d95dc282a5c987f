"""How long the queue is and how quickly it is served, as it was measured in the last minute."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from django.core.cache import cache
from django.db.models import Avg, Count, Min
from django.utils import timezone

from classifier.models import Prediction

Priority = Prediction.Priority
KEY = "classifier.queue.load"
FRESH = 2  # seconds for which all processes share one measurement
WINDOW = timedelta(seconds=60)
SAMPLE = 200


@dataclass(frozen=True)
class Lane:
    """The unfinished predictions of one priority: how many, how long the oldest waits, and how long one has been due.

    A row that was put off, as its photo can't be read at the moment, becomes old but is never due for long.
    """

    waiting: int = 0
    oldest_seconds: float = 0.0
    due_seconds: float = 0.0


@dataclass(frozen=True)
class Load:
    """What waits, and how many predictions are served per second; None when none was ever served."""

    interactive: Lane
    bulk: Lane
    per_second: float | None

    @property
    def waiting(self) -> int:
        return self.interactive.waiting + self.bulk.waiting

    @property
    def oldest_seconds(self) -> float:
        return max(self.interactive.oldest_seconds, self.bulk.oldest_seconds)

    def seconds(self, priority: int) -> float:
        """Return how long it takes until what waits now is answered, as far as it goes before this priority.

        Bulk rows never delay interactive ones. Rows that have been due for longer than the rate promises are right.
        """
        lanes = [self.interactive, self.bulk] if priority == Priority.BULK else [self.interactive]
        ahead = sum(lane.waiting for lane in lanes)
        return max([ahead / self.per_second if self.per_second else 0.0, *(lane.due_seconds for lane in lanes)])

    @classmethod
    def from_cache(cls, value: Any) -> Self | None:
        """Return the load that `cache_load` wrote, or None for anything else, such as another version's format."""
        try:
            return cls(Lane(**value["interactive"]), Lane(**value["bulk"]), value["per_second"])
        except (KeyError, TypeError):
            return None


def current_load() -> Load:
    """Return the queue's load, at most FRESH seconds old."""
    found = Load.from_cache(cache.get(KEY))
    if found is None:
        found = measure_load()
        cache_load(found)
    return found


def cache_load(load: Load, seconds: int = FRESH) -> None:
    """Let all processes use this measurement for so long."""
    cache.set(KEY, asdict(load), seconds)


def measure_load() -> Load:
    now = timezone.now()
    lanes = {
        row["priority"]: Lane(row["count"], _age(row["oldest"], now), _age(row["due"], now))
        for row in Prediction.objects.waiting()
        .order_by()
        .values("priority")
        .annotate(count=Count("*"), oldest=Min("created_at"), due=Min("available_at"))
    }
    return Load(lanes.get(Priority.INTERACTIVE, Lane()), lanes.get(Priority.BULK, Lane()), _per_second())


def _age(moment: datetime, now: datetime) -> float:
    return max((now - moment).total_seconds(), 0.0)


def _per_second() -> float | None:
    """Return what was finished per second; at least what one worker computes, as an idle one finishes little."""
    finished = Prediction.objects.finished()
    recent = finished.filter(finished_at__gt=timezone.now() - WINDOW).count() / WINDOW.total_seconds()
    last = finished.filter(milliseconds__gt=0).order_by("-finished_at").values("milliseconds")[:SAMPLE]
    each = last.aggregate(mean=Avg("milliseconds"))["mean"]
    return max(recent, 1000 / each if each else 0.0) or None
