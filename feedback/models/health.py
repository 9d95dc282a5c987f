from typing import Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.models import ModelVersion


class Period(models.TextChoices):
    HOUR = "hour", _("Hour")
    DAY = "day", _("Day")


class HealthSummaryQuerySet(models.QuerySet["HealthSummary"]):
    def of(self, period: Period) -> Self:
        return self.filter(period=period)

    def light(self) -> Self:
        """Without what only drift looks at: some hundred kilobytes a row."""
        return self.defer("drift")


class HealthSummary(models.Model):
    """What an hour or a day of predictions by one pair of versions leaves behind; hours add up to days.

    Predictions that failed have no version: each hour has a row for them, so that an hour without one was not counted
    yet. `volume` is final; `answers` is counted anew when sellers and reviewers say more: until then it is stale.
    """

    period = models.CharField(_("period"), max_length=4, choices=Period)
    start = models.DateTimeField(_("begins"), help_text=_("In UTC; by when predictions were finished."))
    text_version = models.ForeignKey(
        ModelVersion, models.CASCADE, null=True, related_name="+", verbose_name=_("text model")
    )
    image_version = models.ForeignKey(
        ModelVersion, models.CASCADE, null=True, related_name="+", verbose_name=_("image model")
    )
    volume = models.JSONField(_("volume"), default=dict)  # counters.Volume
    answers = models.JSONField(_("answers"), default=dict)  # counters.Answers
    drift = models.JSONField(_("drift"), null=True)  # drift.summaries.Summary
    answers_at = models.DateTimeField(_("answers counted"), default=timezone.now)
    is_stale = models.BooleanField(_("to be counted anew"), default=False)

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
    """What an hour of work by one version leaves behind, live or as a shadow; an hour of rest has no row.

    The counts are those of `feedback.experiments.counts.VersionCounts`. A live version's hour is that in which the
    answer was finished, a shadow's that in which it looked on.
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
    """What a pair's inputs and answers are expected to look like: a sample, and the axes that it is seen along."""

    class Origin(models.TextChoices):
        SNAPSHOT = "snapshot", _("Its training snapshot")
        FIRST_DAYS = "first days", _("Its own first days at work")

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
