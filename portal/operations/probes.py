"""Answer the liveness and readiness probes of a load balancer or Kubernetes."""

from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django_redis import get_redis_connection

from classifier.serving import queue_metrics


@never_cache
def live(request: HttpRequest) -> HttpResponse:
    """Answer that the process serves requests."""
    return HttpResponse("ok", content_type="text/plain")


@never_cache
def ready(request: HttpRequest) -> JsonResponse:
    """Report whether the database and the cache answer, and how long the queue is, which doesn't affect readiness."""
    parts = {
        "database": _answers(connection.ensure_connection),
        "cache": _answers(lambda: get_redis_connection().ping()),
    }
    waiting = _queue() if parts["database"] else None
    return JsonResponse({**parts, "queue": waiting}, status=200 if all(parts.values()) else 503)


def _queue() -> dict[str, Any] | None:
    try:
        load = queue_metrics.current_load()
    except DatabaseError:
        return None
    return {
        "waiting": load.waiting,
        "interactive": load.interactive.waiting,
        "bulk": load.bulk.waiting,
        "oldest_seconds": round(load.oldest_seconds, 1),
        "per_second": load.per_second and round(load.per_second, 1),
    }


def _answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except Exception:  # noqa: BLE001 - any error means that the part is not ready
        return False
    return True
