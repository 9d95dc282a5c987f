"""Store the summaries of hours and days, and the baselines that they are compared with."""

from typing import Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.models import ModelVersion


class Period(models.TextChoices):
    """The length of what a summary or report is about."""

    HOUR = "hour", _("Hour")
    DAY = "day", _("Day")


class HealthSummaryQuerySet(models.QuerySet["HealthSummary"]):
    """Select summaries."""

    def of_period(self, period: Period) -> Self:
        """Select the summaries of hours or those of days."""
        return self.filter(period=period)


class HealthSummary(models.Model):
    """The counts of one pair of versions in an hour or a day; hours add up to days.

    Failed predictions have no version. Each hour has a row for them, even without a failure, so that an hour without
    that row is known not to be counted yet. `volume` is final; `answers` is counted again when an answer or review of
    the hour's products comes later, and `is_stale` until then.
    """

    period = models.CharField(_("period"), max_length=4, choices=Period)
    start = models.DateTimeField(_("begins"), help_text=_("In UTC, by the time when predictions were finished."))
    text_version = models.ForeignKey(
        ModelVersion, models.CASCADE, null=True, related_name="+", verbose_name=_("text model")
    )
    image_version = models.ForeignKey(
        ModelVersion, models.CASCADE, null=True, related_name="+", verbose_name=_("image model")
    )
    volume = models.JSONField(_("volume"), default=dict)  # counters.PredictionCounts
    answers = models.JSONField(_("answers"), default=dict)  # counters.AnswerStatistics
    drift = models.JSONField(_("drift"), null=True)  # drift.summaries.DriftSummary
    answers_at = models.DateTimeField(_("answers counted"), default=timezone.now)
    is_stale = models.BooleanField(_("to be counted again"), default=False)

    objects = HealthSummaryQuerySet.as_manager()

    class Meta:
        verbose_name = _("health summary")
        verbose_name_plural = _("health summaries")
        ordering = ["-start"]
        indexes = [
            models.Index(fields=["-answers_at"], name="health_answers_counted"),
            models.Index(fields=["answers_at"], name="health_stale", condition=models.Q(is_stale=True)),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["period", "start", "text_version", "image_version"],
                nulls_distinct=False,
                name="one_summary_of_a_pair",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_period_display()} {self.start:%Y-%m-%d %H:%M}"


class VersionHour(models.Model):
    """The counts of one version in an hour, live or as a shadow; an hour without predictions has no row.

    The counts are those of `feedback.experiments.counts.VersionCounts`. A live version is counted in the hour in
    which the prediction was finished, a shadow version in the hour in which it ran.
    """

    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="+", verbose_name=_("version"))
    start = models.DateTimeField(_("begins"), help_text=_("In UTC."))
    is_shadow = models.BooleanField(_("as a shadow"), default=False)
    counts = models.JSONField(_("counts"), default=dict)  # experiments.counts

    class Meta:
        verbose_name = _("hour of a version")
        verbose_name_plural = _("hours of versions")
        ordering = ["start"]
        constraints = [models.UniqueConstraint(fields=["start", "version", "is_shadow"], name="one_hour_of_a_version")]

    def __str__(self) -> str:
        return f"{self.version} {self.start:%Y-%m-%d %H:%M}"


class DriftReference(models.Model):
    """The baseline of a pair of versions: a summary of expected inputs and predictions, and the axes of embeddings."""

    class Origin(models.TextChoices):
        """Where the products of the baseline come from."""

        SNAPSHOT = "snapshot", _("Its training dataset")
        FIRST_DAYS = "first days", _("Its own first days in use")

    text_version = models.ForeignKey(
        ModelVersion, models.CASCADE, null=True, related_name="+", verbose_name=_("text model")
    )
    image_version = models.ForeignKey(
        ModelVersion, models.CASCADE, null=True, related_name="+", verbose_name=_("image model")
    )
    origin = models.CharField(_("made of"), max_length=10, choices=Origin)
    summary = models.JSONField(_("summary"))
    projections = models.JSONField(_("principal axes"), default=dict)
    since = models.DateTimeField(_("compared from"), default=timezone.now)
    created_at = models.DateTimeField(_("made"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("drift reference")
        verbose_name_plural = _("drift references")
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["text_version", "image_version"], nulls_distinct=False, name="one_reference_of_a_pair"
            )
        ]

    def __str__(self) -> str:
        return f"{self.text_version or '–'} + {self.image_version or '–'}"
