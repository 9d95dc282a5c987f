"""Questions to the models and their answers, which are the queue too, and what went wrong or was said beside it."""

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


TRIES_IN_COMPANY = 2
VECTORS = tuple(entry.embedding_column for entry in MODALITIES.values())


class PredictionQuerySet(ArchivableQuerySet["Prediction"]):
    def for_seller(self, seller: "AbstractBaseUser") -> Self:
        return self.filter(seller=seller)

    def waiting(self) -> Self:
        """What a worker has still to do, claimed or not."""
        return self.filter(state__in=[Prediction.State.QUEUED, Prediction.State.RUNNING])

    def due(self) -> Self:
        """What a worker may claim now: queued and not backing off, or claimed by a worker whose lease ran out."""
        return self.waiting().filter(available_at__lte=Now())

    def claim(self, *, limit: int) -> "list[Prediction]":
        """Lease up to `limit` due rows to the caller, interactive first, then oldest; return them.

        Rows of one claim have one priority: a seller who waits doesn't wait for a batch filled up with bulk.
        The lease lasts LEASE_SECONDS and is proven by `lease_token`: results are stored only with it, so
        a worker that comes back late can't overwrite another's work. A row that was tried twice may be what kills
        its workers, so it is handed out alone when its turn comes.
        """
        lease_token = uuid.uuid4()
        with transaction.atomic():
            due = self.due().order_by("priority", "available_at").defer(*VECTORS)
            rows = list(due.select_for_update(skip_locked=True, of=("self",))[:limit])
            claimed = [row for row in rows if row.attempts < TRIES_IN_COMPANY and row.priority == rows[0].priority]
            if rows and rows[0].attempts >= TRIES_IN_COMPANY:
                claimed = [rows[0]]
            self.filter(pk__in=[row.pk for row in claimed]).update(
                state=Prediction.State.RUNNING,
                lease_token=lease_token,
                available_at=Now() + timedelta(seconds=settings.LEASE_SECONDS),
                attempts=F("attempts") + 1,
            )
        for row in claimed:  # as they are now in the database, but for `available_at`
            row.state, row.lease_token, row.attempts = Prediction.State.RUNNING, lease_token, row.attempts + 1
        return claimed

    def release(self, predictions: "Sequence[Prediction]", *, pause: timedelta = timedelta()) -> int:
        """Queue what the caller claimed together and still holds again, after the pause; return how many rows.

        The try doesn't count: what kept the rows from their answer is not theirs.
        """
        return self.filter(
            pk__in=[prediction.pk for prediction in predictions],
            state=Prediction.State.RUNNING,
            lease_token=predictions[0].lease_token,
        ).update(
            state=Prediction.State.QUEUED, lease_token=None, available_at=Now() + pause, attempts=F("attempts") - 1
        )

    def held(self, prediction: "Prediction") -> Self:
        """The row of `prediction` as long as its lease is the one that the caller claimed."""
        return self.filter(pk=prediction.pk, state=Prediction.State.RUNNING, lease_token=prediction.lease_token)

    def with_versions(self) -> Self:
        """Join the versions' rows, without the long columns: embeddings and the versions' reports."""
        versions = [entry.version_column for entry in MODALITIES.values()]
        unused = [f"{version}__{name}" for version in versions for name in ("metrics", "lineage", "engines")]
        return self.select_related(*versions).defer(*VECTORS, *unused)

    def finished(self) -> Self:
        return self.filter(state__in=[Prediction.State.DONE, Prediction.State.FAILED])


class Prediction(Archivable):
    """One question to the models and their answer. What the models saw is frozen here.

    The row is also the queue: see `PredictionQuerySet.claim`.
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
    photo_large = models.CharField(_("photo"), max_length=120, blank=True, help_text=_("For people to look at."))
    photo_small = models.CharField(_("model's photo"), max_length=120, blank=True)
    variant_key = models.UUIDField(
        _("variant key"), null=True, editable=False, help_text=_("The product: the same variants answer it each time.")
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
    error = models.TextField(_("error"), blank=True, help_text=_("In words for the seller."))

    text_version = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, related_name="+", verbose_name=_("text model")
    )
    image_version = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, related_name="+", verbose_name=_("image model")
    )
    text_probabilities = models.JSONField(_("text model's probabilities"), null=True)
    image_probabilities = models.JSONField(_("image model's probabilities"), null=True)
    probabilities = models.JSONField(_("combined probabilities"), null=True)
    ensemble = models.JSONField(_("how both were combined"), null=True)
    top5 = models.JSONField(_("five likeliest"), null=True)
    text_embedding = HalfVectorField(null=True, editable=False)
    image_embedding = HalfVectorField(null=True, editable=False)
    passes = models.JSONField(
        _("engines"), null=True, help_text=_("Of each model: the engine, its milliseconds a row and its batch's rows.")
    )
    milliseconds = models.FloatField(_("compute time (ms)"), null=True, help_text=_("Share of its batch's time."))
    unusual = models.CharField(
        _("unlike anything known"), max_length=5, blank=True, choices=Unusual, default="", db_default="",
        help_text=_("Which of the inputs is unlike everything that the models were trained with."),
    )  # fmt: skip
    photo_hash = models.BigIntegerField(
        null=True, editable=False, help_text=_("`pictures.photo_hash` of the model's photo, as a signed number.")
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
        """Whether the probabilities may be taken at their word: not for two models that no rule was fitted for."""
        return bool((self.ensemble or {}).get("calibrated", True))

    @property
    def best(self) -> "dict[str, Any] | None":
        """The likeliest category as {"category", "slug", "probability"}."""
        return self.top5[0] if self.top5 else None


class Fault(models.Model):
    """A live version that could not answer rows of a batch; another one answered them, or they were tried again."""

    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="faults", verbose_name=_("version"))
    rows = models.PositiveIntegerField(_("rows"))
    error = models.CharField(_("error"), max_length=200)
    created_at = models.DateTimeField(_("when"), default=timezone.now)

    class Meta:
        verbose_name = _("fault")
        verbose_name_plural = _("faults")
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["version", "-created_at"], name="fault_of_version")]

    def __str__(self) -> str:
        return f"{self.version}: {self.error}"


class ShadowAnswer(models.Model):
    """What a shadow said of a prediction's input, or why it could not. No seller ever sees it."""

    prediction = models.ForeignKey(Prediction, models.CASCADE, related_name="shadows", verbose_name=_("prediction"))
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="+", verbose_name=_("version"))
    probabilities = models.JSONField(_("probabilities"), null=True)
    best = models.CharField(_("likeliest"), max_length=80, blank=True, help_text=_("Its slug."))
    agrees = models.BooleanField(
        _("agrees"), null=True, help_text=_("Whether the live model of its kind found the same category likeliest.")
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
