"""Sellers' requests to be forgotten. These rows outlive the accounts, so they hold ids, counts and times only."""

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
    def open(self) -> Self:
        return self.filter(state__in=Erasure.OPEN)

    def of(self, account: int, joined_at: datetime) -> "Erasure | None":
        """Return what was asked for this account and is neither done nor cancelled."""
        return self.open().filter(account=account, joined_at=joined_at).first()

    def claim(self, pk: uuid.UUID | None = None) -> "Erasure | None":
        """Lease an erasure that is due (the one with `pk`, or the oldest) to the caller; return it, or None."""
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
        """The row of `erasure` as long as its lease is the one that the caller claimed."""
        return self.filter(pk=erasure.pk, state=Erasure.State.RUNNING, lease=erasure.lease)


class Erasure(models.Model):
    """One account's way out: asked for, waited for, done in batches. The row is the queue and the record of it.

    `account` and `joined_at` together name the account: after a backup was restored, its number may be given anew.
    """

    class State(models.TextChoices):
        ASKED = "asked", _("Asked for")
        CANCELLED = "cancelled", _("Cancelled")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")

    OPEN = (State.ASKED, State.RUNNING)

    class Via(models.TextChoices):
        PAGE = "page", _("Account page")
        ADMIN = "admin", _("Admin")
        COMMAND = "command", _("Command")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.BigIntegerField(_("account"), help_text=_("Its number; the account itself is gone afterwards."))
    joined_at = models.DateTimeField(_("joined"))
    via = models.CharField(_("asked through"), max_length=8, choices=Via)
    asked_by = models.BigIntegerField(
        _("asked by"), null=True, help_text=_("The number of who asked; none: a command.")
    )
    asked_at = models.DateTimeField(_("asked"), default=timezone.now)
    cancelled_by = models.BigIntegerField(_("cancelled by"), null=True)
    state = models.CharField(_("state"), max_length=9, choices=State, default=State.ASKED)
    due_at = models.DateTimeField(_("due"), help_text=_("When a worker may take it up."))
    sweep_at = models.DateTimeField(
        _("second pass"), null=True, help_text=_("From when on everything is looked through again.")
    )
    lease = models.UUIDField(null=True, editable=False)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    error = models.CharField(_("what held it up"), max_length=200, blank=True)
    counts = models.JSONField(_("what went"), default=dict)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished or cancelled"), null=True)
    replayed_at = models.DateTimeField(_("replayed"), null=True, help_text=_("After a backup was restored."))
    is_in_ledger = models.BooleanField(_("in the ledger"), default=False, help_text=_("As it stands here."))

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
    """What one step of an erasure is about to delete, written down first: whoever goes on knows what to look for.

    `forgotten_at`: when training had dropped the examples and cut the snapshots that these predictions were in.
    """

    erasure = models.ForeignKey(Erasure, models.CASCADE, related_name="batches", verbose_name=_("erasure"))
    number = models.PositiveIntegerField(_("number"))
    predictions = ArrayField(models.UUIDField(), verbose_name=_("predictions"))
    photos = ArrayField(models.CharField(max_length=120), verbose_name=_("photos"), help_text=_("Their random names."))
    done_at = models.DateTimeField(_("deleted"), null=True)
    swept_at = models.DateTimeField(_("looked through again"), null=True)
    forgotten_at = models.DateTimeField(_("forgotten by training"), null=True)

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
