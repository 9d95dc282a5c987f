from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.models import Modality


class MonitoringReport(models.Model):
    """What a monitor found. One that asks for retraining is answered by the training room, which reads these rows."""

    modality = models.CharField(_("modality"), max_length=8, choices=Modality, blank=True, help_text=_("Empty: both."))
    summary = models.TextField(_("summary"))
    asks_retraining = models.BooleanField(_("asks for retraining"), default=False)
    answered_at = models.DateTimeField(_("answered"), null=True, blank=True)
    answer = models.TextField(_("answer"), blank=True)
    created_at = models.DateTimeField(_("written"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("monitoring report")
        verbose_name_plural = _("monitoring reports")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"report of {self.created_at:%Y-%m-%d %H:%M}"
