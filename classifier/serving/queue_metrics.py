"""Measure how long the queue is and how quickly it is served; share the figures by the cache."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from django.core.cache import cache
from django.db.models import Avg, Count, Min
from django.utils import timezone

from classifier.models import Prediction

Priority = Prediction.Priority
KEY = "classifier.queue.load"
FRESH = 2  # seconds for which all processes share one measurement: counting the queue costs a query
WINDOW = timedelta(seconds=60)
SAMPLE = 200


@dataclass(frozen=True)
class Lane:
    """The unfinished predictions of one priority: how many, the oldest one's age, and the longest time one was due.

    A row that is postponed again and again, as its photo can't be read, becomes old but is never due for long.
    """

    waiting: int = 0
    oldest_seconds: float = 0.0
    due_seconds: float = 0.0


@dataclass(frozen=True)
class Load:
    """The queue by priority, and how many predictions are finished per second; None when none ever was."""

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
        """Return the estimated seconds until a new prediction of this priority is finished.

        Bulk rows never delay interactive ones. Where rows have been due for longer than the rate suggests, their time
        counts: the rate is of the last minute, and workers may have stopped since.
        """
        lanes = [self.interactive]
        if priority == Priority.BULK:
            lanes.append(self.bulk)
        waiting = sum(lane.waiting for lane in lanes)
        by_rate = waiting / self.per_second if self.per_second else 0.0
        return max(by_rate, *(lane.due_seconds for lane in lanes))

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
    """Let all processes use this measurement for `seconds`."""
    cache.set(KEY, asdict(load), seconds)


def measure_load() -> Load:
    """Count the queue and the predictions finished in the last minute."""
    now = timezone.now()
    by_priority = Prediction.objects.waiting().order_by().values("priority")
    rows = by_priority.annotate(count=Count("*"), oldest=Min("created_at"), due=Min("available_at"))
    lanes: dict[int, Lane] = {}
    for row in rows:
        lanes[row["priority"]] = Lane(row["count"], _age(row["oldest"], now), _age(row["due"], now))
    return Load(lanes.get(Priority.INTERACTIVE, Lane()), lanes.get(Priority.BULK, Lane()), _per_second())


def _age(moment: datetime, now: datetime) -> float:
    return max((now - moment).total_seconds(), 0.0)


def _per_second() -> float | None:
    """Return how many predictions are finished per second, at least as many as one busy worker computes."""
    finished = Prediction.objects.finished()
    recent = finished.filter(finished_at__gt=timezone.now() - WINDOW).count() / WINDOW.total_seconds()
    last = finished.filter(milliseconds__gt=0).order_by("-finished_at").values("milliseconds")[:SAMPLE]
    milliseconds = last.aggregate(mean=Avg("milliseconds"))["mean"]
    possible = 1000 / milliseconds if milliseconds else 0.0
    return max(recent, possible) or None
