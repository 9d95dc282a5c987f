import uuid
from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.models import Category, Modality, ModelVersion
from feedback.models import MonitoringReport

SNAPSHOTS = "snapshots"  # the folder of datasets in the storage "datasets"
FEEDBACK = "feedback"  # the source of examples that sellers' accepted answers made


class Split(models.TextChoices):
    TRAIN = "train", _("Training")
    VALIDATION = "validation", _("Validation")
    TEST = "test", _("Test")
    BRIDGE = "bridge", _("Left out: alike to products of two parts")


class ExampleQuerySet(models.QuerySet["Example"]):
    def placed(self) -> Self:
        """What has a part: all but the products that are alike to those of two parts."""
        return self.exclude(split=Split.BRIDGE)

    def usable(self) -> Self:
        """What a snapshot may take: placed, and in a category that is offered."""
        return self.placed().filter(category__is_active=True)


class Example(models.Model):
    """A labelled product that models may learn from: imported, or a seller's answer that was accepted.

    Its split is chosen once, when it comes in, and never changes: see `training.datasets.splits`.
    """

    source = models.CharField(_("source"), max_length=60)
    external_id = models.CharField(_("id in the source"), max_length=120)
    title = models.TextField(_("title"), blank=True)
    description = models.TextField(_("description"), blank=True)
    category = models.ForeignKey(Category, models.PROTECT, related_name="+", verbose_name=_("category"))
    photo = models.CharField(_("photo"), max_length=120, blank=True, help_text=_("Its name in the storage “datasets”."))
    photo_digest = models.CharField(max_length=64, blank=True, editable=False)
    original_digest = models.CharField(
        max_length=64, blank=True, editable=False, help_text=_("Of the photo's file as it came, not of our copy.")
    )
    group = models.CharField(_("group"), max_length=120, blank=True, help_text=_("What must stay in one part."))
    split = models.CharField(_("part"), max_length=10, choices=Split)
    # Equal and near-equal titles share these: see `training.datasets.splits`. The first one has the bands.
    title_key = models.BigIntegerField(null=True, editable=False)
    bands = ArrayField(models.BigIntegerField(), default=list, editable=False)
    created_at = models.DateTimeField(_("imported"), default=timezone.now, editable=False)

    objects = ExampleQuerySet.as_manager()

    class Meta:
        verbose_name = _("example")
        verbose_name_plural = _("examples")
        ordering = ["pk"]
        indexes = [
            GinIndex(fields=["bands"], name="example_bands", fastupdate=False),
            models.Index(fields=["title_key", "split"], name="example_title", condition=Q(title_key__isnull=False)),
            models.Index(fields=["photo_digest", "split"], name="example_photo", condition=~Q(photo_digest="")),
            models.Index(fields=["source", "group", "split"], name="example_group", condition=~Q(group="")),
        ]
        constraints = [
            models.UniqueConstraint(fields=["source", "external_id"], name="example_is_imported_once"),
            models.CheckConstraint(condition=~Q(title="", description="", photo=""), name="example_has_an_input"),
        ]

    def __str__(self) -> str:
        return f"{self.source}/{self.external_id}"


class Dataset(models.Model):
    """An immutable snapshot of examples: Parquet shards and a manifest in the storage "datasets"."""

    checksum = models.CharField(_("checksum"), max_length=64, unique=True, help_text=_("Of its manifest."))
    manifest = models.JSONField(_("manifest"))
    description = models.JSONField(_("description"), null=True, help_text=_("What describe_dataset found."))
    created_at = models.DateTimeField(_("made"), auto_now_add=True)

    class Meta:
        verbose_name = _("dataset")
        verbose_name_plural = _("datasets")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"dataset {self.pk}"

    @property
    def path(self) -> str:
        """The snapshot's folder in the storage "datasets"."""
        return f"{SNAPSHOTS}/{self.checksum}"


class TrainingRunQuerySet(models.QuerySet["TrainingRun"]):
    def active(self) -> Self:
        return self.filter(state__in=TrainingRun.ACTIVE)

    def silent(self) -> Self:
        """Running ones whose worker has given no sign of life for a lease."""
        since = Now() - timedelta(seconds=settings.TRAINING_LEASE_SECONDS)
        return self.filter(state=TrainingRun.State.RUNNING, heartbeat_at__lte=since)

    def claimable(self) -> Self:
        """Queued runs that are due, and silent ones."""
        return self.filter(state=TrainingRun.State.QUEUED, due_at__lte=Now()) | self.silent()

    def claim(self, pk: uuid.UUID | None = None) -> "TrainingRun | None":
        """Lease the oldest claimable run (or the one with `pk`) to the caller; return it, or None."""
        lease = uuid.uuid4()
        with transaction.atomic():
            wanted = self.claimable() if pk is None else self.claimable().filter(pk=pk)
            found = wanted.order_by("created_at").select_for_update(skip_locked=True, of=("self",)).first()
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

    def held(self, run: "TrainingRun") -> Self:
        """The row of `run` as long as its lease is the one that the caller claimed."""
        return self.filter(pk=run.pk, state=TrainingRun.State.RUNNING, lease=run.lease)


class TrainingRun(models.Model):
    """One model in the making: what was asked for, how far it is, and what came of it. The row is the queue."""

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
        ModelVersion, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("goes on from")
    )
    trials = models.PositiveSmallIntegerField(_("tuning trials"), default=0)
    processes = models.PositiveSmallIntegerField(_("processes on each machine"), default=1)
    machines = models.PositiveSmallIntegerField(_("machines"), default=1)
    master = models.CharField(_("first machine"), max_length=120, blank=True, help_text=_("host:port; others join it."))
    deploys = models.BooleanField(_("deploys when it passes"), default=True)
    ends_test = models.BooleanField(
        _("ends a test"), default=False, help_text=_("Else what passes while a test runs is registered only.")
    )
    trigger = models.CharField(_("started by"), max_length=10, choices=Trigger, default=Trigger.COMMAND)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("asked by")
    )
    report = models.ForeignKey(
        MonitoringReport, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("report")
    )

    state = models.CharField(_("state"), max_length=10, choices=State, default=State.QUEUED)
    message = models.TextField(_("outcome"), blank=True, help_text=_("In words."))
    stage = models.CharField(_("stage"), max_length=60, blank=True)
    step = models.PositiveIntegerField(_("step"), default=0)
    total = models.PositiveIntegerField(_("of"), default=0)
    loss = models.FloatField(_("loss"), null=True)
    rate = models.FloatField(_("items per second"), null=True)
    eta_seconds = models.FloatField(_("seconds left"), null=True)
    curve = models.JSONField(_("loss curve"), default=list)
    log = models.TextField(_("log"), blank=True)
    is_cancelled = models.BooleanField(_("cancel asked for"), default=False)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    due_at = models.DateTimeField(_("due"), db_default=Now(), help_text=_("When a worker may take it up."))
    lease = models.UUIDField(null=True, editable=False)
    heartbeat_at = models.DateTimeField(_("last sign of life"), null=True)
    version = models.ForeignKey(
        ModelVersion, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("model version")
    )
    created_at = models.DateTimeField(_("asked for"), default=timezone.now, editable=False)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    objects = TrainingRunQuerySet.as_manager()

    class Meta:
        verbose_name = _("training run")
        verbose_name_plural = _("training runs")
        ordering = ["-created_at"]
        permissions = [("start_trainingrun", _("Can start and cancel training runs"))]
        constraints = [
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
    def share(self) -> float:
        """How much of its present stage is done, from 0 to 1."""
        return min(self.step / self.total, 1.0) if self.total else 0.0

    def progress(self) -> dict[str, Any]:
        """What the run's page and the terminal show while it works."""
        return {name: getattr(self, name) for name in ("stage", "step", "total", "loss", "rate", "eta_seconds")}
