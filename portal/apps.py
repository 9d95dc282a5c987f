"""Configure the app, and connect the notices to the signals of accounts."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PortalConfig(AppConfig):
    name = "portal"
    verbose_name = _("Portal")

    def ready(self) -> None:
        from portal.accounts import notices  # noqa: F401 - connects its receivers to allauth's signals
