"""Mail the owner of an account what was changed in it, with the time, the kind of device and the network."""

import logging
import re
from collections.abc import Iterable
from functools import partial
from ipaddress import ip_address, ip_network
from smtplib import SMTPException
from typing import Any

from allauth.account import signals
from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress
from django.contrib.sites.shortcuts import get_current_site
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from portal.models import User

log = logging.getLogger(__name__)

ADDRESS_ADDED = "account/email/email_added"
ADDRESS_REMOVED = "account/email/email_deleted"
TOKEN_CREATED = "account/email/token_created"  # noqa: S105 - a template's name
EXPORT_REQUESTED = "account/email/export_asked"
PASSWORD_CHANGED = "account/email/password_changed"  # noqa: S105 - a template's name
ADDRESS_CHANGED = "account/email/email_changed"
# The first match counts: Edge and Opera also call themselves Chrome, and Chrome calls itself Safari.
BROWSERS = {
    "Edg": "Edge",
    "OPR": "Opera",
    "Firefox": "Firefox",
    "FxiOS": "Firefox",
    "Chrome": "Chrome",
    "Safari": "Safari",
}
SYSTEMS = {
    "Android": "Android",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "Linux": "Linux",
}
NETWORK_BITS = {4: 24, 6: 48}


def confirmed_addresses(user: User) -> list[str]:
    """Return the confirmed addresses of the account, or its log-in address when none is confirmed."""
    confirmed = EmailAddress.objects.filter(user=user, verified=True).order_by("-primary", "email")
    return list(confirmed.values_list("email", flat=True)) or [user.email]


def notify(request: HttpRequest, user: User, template: str, to: Iterable[str] | None = None) -> None:
    """Mail a notice to these addresses, or to all confirmed ones, once the change is committed.

    Each address gets its own message. A failure to send is logged and raises nothing.
    """
    addresses = confirmed_addresses(user) if to is None else list(to)
    context = {
        "request": request,
        "current_site": get_current_site(request),
        "timestamp": timezone.now(),
        "device": _device(request.headers.get("User-Agent", "")),
        "network": _network(request),
    }
    # Robust: a mail server that is down must not turn a committed change into an error.
    transaction.on_commit(partial(_send, template, addresses, context), robust=True)


def _send(template: str, addresses: Iterable[str], context: dict[str, Any]) -> None:
    for address in addresses:
        try:
            get_adapter().render_mail(template, address, context).send()
        except (OSError, SMTPException) as error:
            log.error("A notice (%s) could not be sent: %s", template, type(error).__name__)


def _device(user_agent: str) -> str:
    """Return the browser and the operating system, without versions."""
    browser = next((name for mark, name in BROWSERS.items() if mark in user_agent), None)
    system = next((name for mark, name in SYSTEMS.items() if mark in user_agent), None)
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or _("an unknown browser")


def _network(request: HttpRequest) -> str:
    """Return the client's network, which shows the provider or region but not the full address."""
    try:
        address = ip_address(get_adapter().get_client_ip(request))
    except (PermissionDenied, ValueError):
        return _("an unknown network")
    network = ip_network(f"{address}/{NETWORK_BITS[address.version]}", strict=False)
    return re.sub(r"\.0$", ".…", str(network.network_address))


@receiver(signals.email_added)
def notify_of_added_address(request: HttpRequest, email_address: EmailAddress, **_: Any) -> None:
    """Mail the earlier addresses: the new one may belong to someone else."""
    others = [address for address in confirmed_addresses(email_address.user) if address != email_address.email]
    notify(request, email_address.user, ADDRESS_ADDED, to=others)


@receiver(signals.email_removed)
def notify_removed_address(request: HttpRequest, user: User, email_address: EmailAddress, **_: Any) -> None:
    """Mail the removed address, unless it was never confirmed and may belong to someone else."""
    if email_address.verified:
        notify(request, user, ADDRESS_REMOVED, to=[email_address.email])
