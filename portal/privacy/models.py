"""Data exports, and the log of requests about personal data."""

import uuid
from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

LEASE = timedelta(minutes=5)  # renewed while it is built


class ExportQuerySet(models.QuerySet["Export"]):
    def active(self) -> Self:
        return self.filter(state__in=Export.ACTIVE)

    def claim(self) -> "Export | None":
        """Lease the export that has waited longest to the caller; return it, or None."""
        lease = uuid.uuid4()
        with transaction.atomic():
            due = self.active().filter(due_at__lte=Now()).order_by("due_at")
            # Rows that another worker is claiming are skipped instead of waited for.
            found = due.select_for_update(skip_locked=True, of=("self",)).first()
            if found is None:
                return None
            self.filter(pk=found.pk).update(
                state=Export.State.RUNNING, lease=lease, due_at=Now() + LEASE, attempts=F("attempts") + 1, rows=0
            )
        return self.select_related("user").get(pk=found.pk)

    def held(self, export: "Export") -> Self:
        """Return the export only while the caller holds its lease."""
        # The token, not the state, proves it: after a lost lease another worker's row is running, too.
        return self.filter(pk=export.pk, state=Export.State.RUNNING, lease=export.lease)


class Export(models.Model):
    """A zip of all data of a person, built for that person. The row is also the queue's entry."""

    class State(models.TextChoices):
        QUEUED = "queued", _("Waiting")
        RUNNING = "running", _("Being made")
        READY = "ready", _("Ready")
        FAILED = "failed", _("Failed")
        DELETED = "deleted", _("Deleted")

    ACTIVE = (State.QUEUED, State.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="exports", verbose_name=_("account")
    )
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.QUEUED)
    rows = models.PositiveIntegerField(_("rows written"), default=0)
    total = models.PositiveIntegerField(_("of"), default=0)
    bytes = models.PositiveBigIntegerField(_("size in bytes"), default=0)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    error = models.CharField(_("error"), max_length=200, blank=True)
    lease = models.UUIDField(null=True, editable=False)
    due_at = models.DateTimeField(_("due"), db_default=Now())
    created_at = models.DateTimeField(_("asked"), default=timezone.now, editable=False)
    finished_at = models.DateTimeField(_("finished"), null=True)
    expires_at = models.DateTimeField(_("kept until"), null=True)

    objects = ExportQuerySet.as_manager()

    class Meta:
        verbose_name = _("data export")
        verbose_name_plural = _("data exports")
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["due_at"], name="export_due", condition=Q(state__in=["queued", "running"])),
            models.Index(fields=["expires_at"], name="export_expires", condition=Q(state="ready")),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["user"], condition=Q(state__in=["queued", "running"]), name="one_export_at_a_time"
            )
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def path(self) -> str:
        """The zip's name in the storage "private"."""
        return f"exports/{self.pk}.zip"

    @property
    def is_active(self) -> bool:
        return self.state in self.ACTIVE

    @property
    def is_ready(self) -> bool:
        return self.state == self.State.READY and bool(self.expires_at and self.expires_at > timezone.now())

    @property
    def share(self) -> float:
        return min(self.rows / self.total, 1.0) if self.total else 0.0


class PrivacyEvent(models.Model):
    """A request about personal data, or what was done about it; without names, so that it outlives the account."""

    class Kind(models.TextChoices):
        ERASURE_ASKED = "erasure-asked", _("Erasure asked for")
        ERASURE_CANCELLED = "erasure-cancelled", _("Erasure cancelled")
        ERASURE_STARTED = "erasure-started", _("Erasure started")
        ERASURE_DONE = "erasure-done", _("Account erased")
        ERASURE_REPLAYED = "erasure-replayed", _("Erasure replayed")
        EXPORT_ASKED = "export-asked", _("Export asked for")
        EXPORT_READY = "export-ready", _("Export made")
        EXPORT_FAILED = "export-failed", _("Export failed")
        EXPORT_FETCHED = "export-fetched", _("Export downloaded")
        EXPORT_DELETED = "export-deleted", _("Export deleted")
        RETENTION = "retention", _("Old data deleted")

    kind = models.CharField(_("what"), max_length=20, choices=Kind)
    account = models.BigIntegerField(_("account"), null=True, help_text=_("Its number."))
    actor = models.BigIntegerField(_("by"), null=True, help_text=_("The number of who did it; none: Aisle itself."))
    counts = models.JSONField(_("figures"), default=dict)
    created_at = models.DateTimeField(_("when"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("privacy event")
        verbose_name_plural = _("privacy log")
        ordering = ["-created_at", "-pk"]
        indexes = [
            models.Index(fields=["-created_at"], name="privacy_event_newest"),
            models.Index(fields=["account"], name="privacy_event_account"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.created_at:%Y-%m-%d %H:%M}"


def log_event(kind: PrivacyEvent.Kind, *, account: int | None = None, actor: int | None = None, **counts: Any) -> None:
    """Add an entry to the privacy log."""
    PrivacyEvent.objects.create(kind=kind, account=account, actor=actor, counts=counts)
