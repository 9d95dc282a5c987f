"""Requests with an Idempotency-Key, and their first responses."""

from datetime import timedelta
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from common.leases import Leasable

KEPT = timedelta(hours=24)
LONGEST_KEY = 255


class IdempotentRequestQuerySet(models.QuerySet["IdempotentRequest"]):
    def expired(self) -> Self:
        return self.filter(created_at__lte=timezone.now() - KEPT)

    def completed(self) -> Self:
        """Return the requests with a response that no process will change any more."""
        is_free = Q(lease_token=None) | Q(lease_expires_at__lte=Now())
        return self.filter(is_free, status__isnull=False)


class IdempotentRequest(Leasable):
    """A request that may be sent again under its key; while it is processed its lease is held."""

    seller = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="idempotent_requests")
    key = models.CharField(max_length=LONGEST_KEY)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True)
    location = models.CharField(max_length=500, blank=True)
    body = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = IdempotentRequestQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["seller", "key"], name="one_idempotent_request_per_key")]

    def __str__(self) -> str:
        return self.key
