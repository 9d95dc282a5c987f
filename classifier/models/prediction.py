"""Predictions, which are the queue too, the failures of versions, and the answers of shadows."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from pgvector.django import HalfVectorField

from classifier.modalities import MODALITIES
from classifier.models.archivable import Archivable, ArchivableQuerySet
from classifier.models.model_version import ModelVersion

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


SHARED_ATTEMPTS = 2  # a row with as many attempts is claimed alone
VECTORS = tuple(entry.embedding_column for entry in MODALITIES.values())


class PredictionQuerySet(ArchivableQuerySet["Prediction"]):
    def for_seller(self, seller: "AbstractBaseUser") -> Self:
        return self.filter(seller=seller)

    def waiting(self) -> Self:
        """Return the unfinished rows, claimed or not."""
        return self.filter(state__in=[Prediction.State.QUEUED, Prediction.State.RUNNING])

    def due(self) -> Self:
        """Return the rows that a worker may claim now: queued and not pausing, or with an expired lease."""
        return self.waiting().filter(available_at__lte=Now())

    def claim(self, *, limit: int) -> "list[Prediction]":
        """Lease up to `limit` due rows to the caller, interactive first, then oldest; return them.

        The lease lasts LEASE_SECONDS and is proven by `lease_token`: results are stored only with it, so that a worker
        that comes back late can't overwrite another one's results.
        """
        lease_token = uuid.uuid4()
        with transaction.atomic():  # ends before the models run: nothing is locked while they compute
            due = self.due().order_by("priority", "available_at").defer(*VECTORS)
            rows = list(due.select_for_update(skip_locked=True, of=("self",))[:limit])
            # One priority for each claim: an interactive product must not wait for a batch filled up with bulk rows.
            claimed = [row for row in rows if row.attempts < SHARED_ATTEMPTS and row.priority == rows[0].priority]
            # A row that was tried twice may be what kills its workers: alone it takes no other row along.
            if rows and rows[0].attempts >= SHARED_ATTEMPTS:
                claimed = [rows[0]]
            self.filter(pk__in=[row.pk for row in claimed]).update(
                state=Prediction.State.RUNNING,
                lease_token=lease_token,
                available_at=Now() + timedelta(seconds=settings.LEASE_SECONDS),
                attempts=F("attempts") + 1,
            )
        for row in claimed:  # as in the database now, except for `available_at`
            row.state, row.lease_token, row.attempts = Prediction.State.RUNNING, lease_token, row.attempts + 1
        return claimed

    def release(self, predictions: "Sequence[Prediction]", *, pause: timedelta = timedelta()) -> int:
        """Queue rows again that the caller claimed together and still holds; return how many.

        They may be claimed after the pause. The attempt doesn't count, as an outage is not the rows' fault.
        """
        return self.filter(
            pk__in=[prediction.pk for prediction in predictions],
            state=Prediction.State.RUNNING,
            lease_token=predictions[0].lease_token,
        ).update(
            state=Prediction.State.QUEUED, lease_token=None, available_at=Now() + pause, attempts=F("attempts") - 1
        )

    def held(self, prediction: "Prediction") -> Self:
        """Return the row of `prediction`, or none once its lease has gone to another worker."""
        # The lease token decides, not the state: a row that another worker has claimed is "running" too.
        return self.filter(pk=prediction.pk, state=Prediction.State.RUNNING, lease_token=prediction.lease_token)

    def with_versions(self) -> Self:
        """Join the versions' rows, without the long columns: embeddings and the versions' reports."""
        versions = [entry.version_column for entry in MODALITIES.values()]
        unused = [f"{version}__{name}" for version in versions for name in ("metrics", "lineage", "engines")]
        return self.select_related(*versions).defer(*VECTORS, *unused)

    def finished(self) -> Self:
        """Return the rows that are done or have failed."""
        return self.filter(state__in=[Prediction.State.DONE, Prediction.State.FAILED])


class Prediction(Archivable):
    """One request to the models and its result, with a frozen copy of what the models read.

    The row is also the queue's entry: see `PredictionQuerySet.claim`.
    """

    class State(models.TextChoices):
        QUEUED = "queued", _("Queued")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    class Priority(models.IntegerChoices):
        INTERACTIVE = 0, _("Interactive")
        BULK = 10, _("Bulk")

    class Unusual(models.TextChoices):
        TEXT = "text", _("Text")
        IMAGE = "image", _("Photo")
        BOTH = "both", _("Text and photo")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    seller = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="predictions", verbose_name=_("seller")
    )
    title = models.TextField(_("title"), blank=True)
    description = models.TextField(_("description"), blank=True)
    photo_large = models.CharField(_("photo"), max_length=120, blank=True, help_text=_("The large copy, for people."))
    photo_small = models.CharField(_("model's photo"), max_length=120, blank=True)
    variant_key = models.UUIDField(
        _("variant key"), null=True, editable=False, help_text=_("The product's id: it always gets the same variants.")
    )

    state = models.CharField(_("state"), max_length=8, choices=State, default=State.QUEUED)
    priority = models.PositiveSmallIntegerField(_("priority"), choices=Priority, default=Priority.INTERACTIVE)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    # The database's clock, which `due` compares with: a web machine's may be ahead of it.
    # While a worker holds the row, this is when its lease expires and another one may claim it.
    available_at = models.DateTimeField(
        _("available"), db_default=Now(), db_column="due_at", help_text=_("When a worker may claim the row.")
    )
    lease_token = models.UUIDField(null=True, editable=False, db_column="lease")
    error = models.TextField(_("error"), blank=True, help_text=_("What the seller reads."))

    text_version = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, related_name="+", verbose_name=_("text model")
    )
    image_version = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, related_name="+", verbose_name=_("image model")
    )
    text_probabilities = models.JSONField(_("text model's probabilities"), null=True)
    image_probabilities = models.JSONField(_("image model's probabilities"), null=True)
    probabilities = models.JSONField(_("combined probabilities"), null=True)
    ensemble = models.JSONField(_("combination"), null=True)
    top5 = models.JSONField(_("suggestions"), null=True)
    text_embedding = HalfVectorField(null=True, editable=False)
    image_embedding = HalfVectorField(null=True, editable=False)
    passes = models.JSONField(
        _("engines"), null=True, help_text=_("For each model: engine, milliseconds a product, products in the pass.")
    )
    milliseconds = models.FloatField(_("compute time (ms)"), null=True, help_text=_("Share of its batch's time."))
    unusual = models.CharField(
        _("unusual"), max_length=5, blank=True, choices=Unusual, default="", db_default="",
        help_text=_("The inputs that are unlike everything the models were trained with."),
    )  # fmt: skip
    photo_hash = models.BigIntegerField(
        null=True, editable=False, help_text=_("`copies.photo_hash` of the model's photo, as a signed number.")
    )

    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    finished_at = models.DateTimeField(_("finished"), null=True)

    objects = PredictionQuerySet.as_manager()

    class Meta:
        verbose_name = _("prediction")
        verbose_name_plural = _("predictions")
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["seller", "-created_at"], name="prediction_of_seller"),
            models.Index(fields=["-created_at"], name="prediction_newest"),
            models.Index(fields=["-created_at"], name="prediction_failed", condition=Q(state="failed")),
            models.Index(
                fields=["-finished_at"], name="prediction_finished", condition=Q(state__in=["done", "failed"])
            ),
            models.Index(
                fields=["priority", "available_at"],
                name="prediction_due",
                condition=Q(state__in=["queued", "running"]),
            ),
            models.Index(
                fields=["seller", "state", "id"],
                name="prediction_unanswered",
                condition=Q(state__in=["queued", "running", "failed"]),
            ),
            models.Index(fields=["photo_hash"], name="prediction_photo_hash", condition=Q(photo_hash__isnull=False)),
            models.Index(fields=["-created_at"], name="prediction_unusual", condition=~Q(unusual="")),
            models.Index(
                fields=["archive_due_at"],
                name="prediction_unarchived",
                condition=Q(archived_at=None, state__in=["done", "failed"]),
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=~Q(title="", description="", photo_small=""), name="prediction_has_an_input"
            ),
            models.CheckConstraint(
                condition=~Q(state="done") | Q(probabilities__isnull=False, top5__isnull=False),
                name="done_prediction_has_an_answer",
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def has_text(self) -> bool:
        return bool(self.title or self.description)

    @property
    def is_calibrated(self) -> bool:
        """Whether the probabilities are calibrated: not where no rule was fitted for the two models."""
        return bool((self.ensemble or {}).get("calibrated", True))

    @property
    def best(self) -> "dict[str, Any] | None":
        """The likeliest category as {"category", "slug", "probability"}."""
        return self.top5[0] if self.top5 else None


class Fault(models.Model):
    """A model failure: a live version that could not answer rows of a batch, and why."""

    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="faults", verbose_name=_("version"))
    rows = models.PositiveIntegerField(_("rows"))
    error = models.CharField(_("error"), max_length=200)
    created_at = models.DateTimeField(_("when"), default=timezone.now)

    class Meta:
        verbose_name = _("model failure")
        verbose_name_plural = _("model failures")
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["version", "-created_at"], name="fault_of_version")]

    def __str__(self) -> str:
        return f"{self.version}: {self.error}"


class ShadowAnswer(models.Model):
    """A shadow's answer to a prediction, or why it failed. Sellers never see it."""

    prediction = models.ForeignKey(Prediction, models.CASCADE, related_name="shadows", verbose_name=_("prediction"))
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="+", verbose_name=_("version"))
    probabilities = models.JSONField(_("probabilities"), null=True)
    best = models.CharField(_("likeliest"), max_length=80, blank=True, help_text=_("Its slug."))
    agrees = models.BooleanField(
        _("agrees"), null=True, help_text=_("Whether the live model of its modality found the same category likeliest.")
    )
    engine = models.CharField(_("engine"), max_length=60, blank=True)
    milliseconds = models.FloatField(_("compute time (ms)"), null=True)
    error = models.CharField(_("error"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("when"), default=timezone.now)

    class Meta:
        verbose_name = _("shadow's answer")
        verbose_name_plural = _("shadows' answers")
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["version", "-created_at"], name="shadow_answer_of_version")]
        constraints = [models.UniqueConstraint("prediction", "version", name="one_answer_of_a_shadow")]

    def __str__(self) -> str:
        return f"{self.version}: {self.best or self.error}"
