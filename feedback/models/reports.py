"""Store what monitoring found."""

from datetime import timedelta
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.models import Modality, ModelVersion
from common.leases import Leasable
from feedback.models.health import Period

CAP_WINDOW = timedelta(days=90)


class MonitoringReportQuerySet(models.QuerySet["MonitoringReport"]):
    """Select monitoring reports."""

    def about(self, report: "MonitoringReport") -> Self:
        """Select the reports of the same kind about the same pair."""
        return self.filter(kind=report.kind, text_version=report.text_version_id, image_version=report.image_version_id)

    def may_ask_for_retraining(self) -> bool:
        """Return whether the cool-down and the cap allow one more request."""
        now = timezone.now()
        asked = self.filter(asks_retraining=True)
        if asked.filter(created_at__gt=now - timedelta(days=settings.RETRAIN_COOLDOWN_DAYS)).exists():
            return False
        return bool(asked.filter(created_at__gt=now - CAP_WINDOW).count() < settings.RETRAIN_CAP)


class MonitoringReport(Leasable):
    """The result of a comparison, and whether it notifies people or requests retraining.

    The training app reads the rows that request retraining and stores its answer in them.
    """

    class Kind(models.TextChoices):
        """What the report is about."""

        NOTE = "note", _("Note")
        DRIFT = "drift", _("Drift")
        ACCURACY = "accuracy", _("Accuracy")

    kind = models.CharField(_("kind"), max_length=10, choices=Kind, default=Kind.NOTE)
    modality = models.CharField(_("modality"), max_length=8, choices=Modality, blank=True, help_text=_("Empty: both."))
    text_version = models.ForeignKey(
        ModelVersion, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("text model")
    )
    image_version = models.ForeignKey(
        ModelVersion, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("image model")
    )
    period = models.CharField(_("period"), max_length=4, choices=Period, blank=True)
    start = models.DateTimeField(_("period begins"), null=True, blank=True)
    summary = models.TextField(_("summary"))
    figures = models.JSONField(_("figures"), default=dict, blank=True)
    breached = models.BooleanField(_("breached"), default=False)
    notifies = models.BooleanField(_("notifies people"), default=False)
    mailed_at = models.DateTimeField(_("mailed"), null=True, blank=True)
    posted_at = models.DateTimeField(_("sent to the webhook"), null=True, blank=True)
    asks_retraining = models.BooleanField(_("asks for retraining"), default=False)
    answered_at = models.DateTimeField(_("answered"), null=True, blank=True)
    answer = models.TextField(_("answer"), blank=True)
    created_at = models.DateTimeField(_("written"), default=timezone.now, editable=False)

    objects = MonitoringReportQuerySet.as_manager()

    class Meta:
        verbose_name = _("monitoring report")
        verbose_name_plural = _("monitoring reports")
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["kind", "-start"], name="report_of_period"),
            models.Index(fields=["created_at"], name="report_asks", condition=Q(asks_retraining=True)),
            models.Index(fields=["created_at"], name="report_notifies", condition=Q(notifies=True)),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "period", "start", "text_version", "image_version"],
                nulls_distinct=False,
                condition=Q(start__isnull=False),
                name="one_report_of_a_period",
            )
        ]

    def __str__(self) -> str:
        return f"report of {self.created_at:%Y-%m-%d %H:%M}"
