"""Store requests to erase an account.

The rows outlive the accounts, so they hold ids, counts and times only.
"""

import uuid
from datetime import datetime, timedelta
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

LEASE = timedelta(minutes=5)  # renewed with each batch


class ErasureQuerySet(models.QuerySet["Erasure"]):
    """Select and claim erasures."""

    def open(self) -> Self:
        """Select erasures that are neither done nor cancelled."""
        return self.filter(state__in=Erasure.OPEN)

    def find_open(self, account: int, joined_at: datetime) -> "Erasure | None":
        """Return the open erasure of this account, or None."""
        return self.open().filter(account=account, joined_at=joined_at).first()

    def claim(self, pk: uuid.UUID | None = None) -> "Erasure | None":
        """Lease a due erasure (the one with `pk`, or the oldest) to the caller; return None without one."""
        lease = uuid.uuid4()
        with transaction.atomic():
            due = self.open().filter(due_at__lte=Now())
            due = due if pk is None else due.filter(pk=pk)
            found = due.order_by("due_at").select_for_update(skip_locked=True).first()
            if found is None:
                return None
            self.filter(pk=found.pk).update(
                state=Erasure.State.RUNNING,
                lease=lease,
                due_at=Now() + LEASE,
                attempts=F("attempts") + 1,
                started_at=found.started_at or timezone.now(),
                is_in_ledger=found.is_in_ledger and found.state == Erasure.State.RUNNING,
            )
        return self.get(pk=found.pk)

    def held(self, erasure: "Erasure") -> Self:
        """Select the row of `erasure` as long as the caller still holds its lease."""
        return self.filter(pk=erasure.pk, state=Erasure.State.RUNNING, lease=erasure.lease)


class Erasure(models.Model):
    """The erasure of one account, done in batches. The row is both its place in the queue and its record.

    `account` and `joined_at` together identify the account: after a backup was restored, a new account can get the
    same number.
    """

    class State(models.TextChoices):
        """How far the erasure is."""

        ASKED = "asked", _("Requested")
        CANCELLED = "cancelled", _("Cancelled")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")

    OPEN = (State.ASKED, State.RUNNING)

    class Via(models.TextChoices):
        """Where the erasure was requested."""

        PAGE = "page", _("Account page")
        ADMIN = "admin", _("Admin")
        COMMAND = "command", _("Command")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.BigIntegerField(_("account"), help_text=_("Its number; the account itself is deleted."))
    joined_at = models.DateTimeField(_("joined"))
    via = models.CharField(_("requested through"), max_length=8, choices=Via)
    asked_by = models.BigIntegerField(
        _("requested by"), null=True, help_text=_("The number of the account that requested it; empty: a command.")
    )
    asked_at = models.DateTimeField(_("requested"), default=timezone.now)
    cancelled_by = models.BigIntegerField(_("cancelled by"), null=True)
    state = models.CharField(_("state"), max_length=9, choices=State, default=State.ASKED)
    due_at = models.DateTimeField(_("due"), help_text=_("When a worker may claim it."))
    sweep_at = models.DateTimeField(_("second pass"), null=True, help_text=_("When everything is searched again."))
    lease = models.UUIDField(null=True, editable=False)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    error = models.CharField(_("last error"), max_length=200, blank=True)
    counts = models.JSONField(_("deleted rows"), default=dict)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished or cancelled"), null=True)
    replayed_at = models.DateTimeField(_("replayed"), null=True, help_text=_("After a backup was restored."))
    is_in_ledger = models.BooleanField(
        _("in the ledger"), default=False, help_text=_("Whether the ledger has this state.")
    )

    objects = ErasureQuerySet.as_manager()

    class Meta:
        verbose_name = _("erasure")
        verbose_name_plural = _("erasures")
        ordering = ["-asked_at"]
        indexes = [
            models.Index(fields=["due_at"], name="erasure_due", condition=Q(state__in=["asked", "running"])),
            models.Index(fields=["asked_at"], name="erasure_unwritten", condition=Q(is_in_ledger=False)),
            models.Index(fields=["-asked_at"], name="erasure_newest"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "joined_at"],
                condition=Q(state__in=["asked", "running"]),
                name="one_open_erasure_per_account",
            )
        ]

    def __str__(self) -> str:
        return str(self.pk)


class ErasureBatch(models.Model):
    """What one step of an erasure is about to delete, stored first, so that a later worker can complete the step.

    `forgotten_at`: when training had removed these predictions from its examples and datasets.
    """

    erasure = models.ForeignKey(Erasure, models.CASCADE, related_name="batches", verbose_name=_("erasure"))
    number = models.PositiveIntegerField(_("number"))
    predictions = ArrayField(models.UUIDField(), verbose_name=_("predictions"))
    photos = ArrayField(models.CharField(max_length=120), verbose_name=_("photos"), help_text=_("Their file names."))
    done_at = models.DateTimeField(_("deleted"), null=True)
    swept_at = models.DateTimeField(_("searched again"), null=True)
    forgotten_at = models.DateTimeField(_("removed from training data"), null=True)

    class Meta:
        verbose_name = _("batch of an erasure")
        verbose_name_plural = _("batches of erasures")
        ordering = ["erasure", "number"]
        constraints = [models.UniqueConstraint(fields=["erasure", "number"], name="one_batch_of_a_number")]
        indexes = [
            models.Index(fields=["erasure"], name="batch_unforgotten", condition=Q(forgotten_at=None)),
            models.Index(fields=["erasure"], name="batch_unswept", condition=Q(swept_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.erasure_id}/{self.number}"
