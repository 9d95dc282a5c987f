"""Define training runs: the queue of models to train, and the record of what became of each."""

import uuid
from datetime import timedelta
from typing import Self

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.models import Modality, ModelVersion
from feedback.models import MonitoringReport
from training.models.dataset import Dataset


class TrainingRunQuerySet(models.QuerySet["TrainingRun"]):
    def active(self) -> Self:
        """Keep queued and running runs."""
        return self.filter(state__in=TrainingRun.ACTIVE)

    def without_heartbeat(self) -> Self:
        """Keep running ones whose worker has written no heartbeat for the length of a lease."""
        since = Now() - timedelta(seconds=settings.TRAINING_LEASE_SECONDS)
        return self.filter(state=TrainingRun.State.RUNNING, heartbeat_at__lte=since)

    def claimable(self) -> Self:
        """Keep queued runs that are due, and running ones without a heartbeat."""
        return self.filter(state=TrainingRun.State.QUEUED, available_at__lte=Now()) | self.without_heartbeat()

    def claim(self, pk: uuid.UUID | None = None) -> "TrainingRun | None":
        """Lease the oldest claimable run (or the one with `pk`) to the caller; return it, or None."""
        lease = uuid.uuid4()
        with transaction.atomic():
            candidates = self.claimable() if pk is None else self.claimable().filter(pk=pk)
            # Skipping locked rows, so that workers that claim at the same time get different runs.
            found = candidates.order_by("created_at").select_for_update(skip_locked=True, of=("self",)).first()
            if found is None:
                return None
            self.filter(pk=found.pk).update(
                state=TrainingRun.State.RUNNING,
                lease=lease,
                heartbeat_at=Now(),
                attempts=F("attempts") + 1,
                started_at=found.started_at or timezone.now(),
            )
        return self.select_related("dataset", "parent").get(pk=found.pk)

    def leased_as(self, run: "TrainingRun") -> Self:
        """Keep the row of `run` while its lease is the one that the caller claimed.

        The lease token, not the state, guards the row: a worker that lost its lease still sees "running".
        """
        return self.filter(pk=run.pk, state=TrainingRun.State.RUNNING, lease=run.lease)


class TrainingRun(models.Model):
    """One model to train: what was requested, how far it is, and what became of it. The row is the queue's entry."""

    class State(models.TextChoices):
        QUEUED = "queued", _("Queued")
        RUNNING = "running", _("Running")
        DEPLOYED = "deployed", _("Deployed")
        REGISTERED = "registered", _("Registered, not deployed")
        HELD = "held", _("Held back: the champion stays")
        REJECTED = "rejected", _("Rejected: the champion stays")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    ACTIVE = (State.QUEUED, State.RUNNING)

    class Trigger(models.TextChoices):
        COMMAND = "command", _("Command")
        ADMIN = "admin", _("Admin")
        SCHEDULE = "schedule", _("Schedule")
        REPORT = "report", _("Monitoring report")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    modality = models.CharField(_("modality"), max_length=8, choices=Modality)
    dataset = models.ForeignKey(
        Dataset,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="runs",
        verbose_name=_("dataset"),
        help_text=_("None: a new one is made when the run starts."),
    )
    recipe = models.JSONField(_("recipe"))
    parent = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("continues from")
    )
    trials = models.PositiveSmallIntegerField(_("tuning trials"), default=0)
    processes = models.PositiveSmallIntegerField(_("processes on each machine"), default=1)
    machines = models.PositiveSmallIntegerField(_("machines"), default=1)
    master = models.CharField(_("first machine"), max_length=120, blank=True, help_text=_("host:port; others join it."))
    deploys = models.BooleanField(_("deploys when it passes"), default=True)
    ends_test = models.BooleanField(
        _("ends an experiment"),
        default=False,
        help_text=_("Without it, a version that passes during an experiment is only registered."),
    )
    trigger = models.CharField(_("started by"), max_length=10, choices=Trigger, default=Trigger.COMMAND)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("requested by"),
    )
    report = models.ForeignKey(
        MonitoringReport, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("report")
    )

    state = models.CharField(_("state"), max_length=10, choices=State, default=State.QUEUED)
    message = models.TextField(_("outcome"), blank=True, help_text=_("In words."))
    # A code of training.fit.stage_codes; runs of an older version hold words.
    stage = models.CharField(_("stage"), max_length=60, blank=True)
    step = models.PositiveIntegerField(_("step"), default=0)
    total = models.PositiveIntegerField(_("of"), default=0)
    loss = models.FloatField(_("loss"), null=True)
    rate = models.FloatField(_("items per second"), null=True)
    eta_seconds = models.FloatField(_("seconds left"), null=True)
    curve = models.JSONField(_("loss curve"), default=list)
    log = models.TextField(_("log"), blank=True)
    is_cancelled = models.BooleanField(_("cancellation requested"), default=False)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    available_at = models.DateTimeField(
        _("available from"), db_default=Now(), db_column="due_at", help_text=_("When a worker may claim it.")
    )
    lease = models.UUIDField(null=True, editable=False)
    heartbeat_at = models.DateTimeField(_("last heartbeat"), null=True)
    version = models.ForeignKey(
        ModelVersion, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("model version")
    )
    created_at = models.DateTimeField(_("requested"), default=timezone.now, editable=False)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    objects = TrainingRunQuerySet.as_manager()

    class Meta:
        verbose_name = _("training run")
        verbose_name_plural = _("training runs")
        ordering = ["-created_at"]
        permissions = [("start_trainingrun", _("Can start and cancel training runs"))]
        constraints = [
            # Two runs of a modality would be compared with the same champion, and the second would replace the first.
            models.UniqueConstraint(
                fields=["modality"], condition=Q(state__in=["queued", "running"]), name="one_active_run_per_modality"
            )
        ]

    def __str__(self) -> str:
        return f"{self.modality} run of {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def is_active(self) -> bool:
        return self.state in self.ACTIVE

    @property
    def stage_share(self) -> float:
        """The part of the current stage that is done, from 0 to 1."""
        return min(self.step / self.total, 1.0) if self.total else 0.0
