"""What knox's table of API tokens has no columns for."""

from django.db import models
from django.utils.translation import gettext_lazy as _
from knox.models import AuthToken


class TokenDetails(models.Model):
    """The name and the last use of an API token."""

    token = models.OneToOneField(AuthToken, models.CASCADE, primary_key=True, related_name="details")
    name = models.CharField(_("name"), max_length=60, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True)

    class Meta:
        verbose_name = verbose_name_plural = _("token details")

    def __str__(self) -> str:
        return self.name
