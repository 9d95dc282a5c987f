"""Telling staff what they must know: by mail to those who may see it, and of reports by a webhook. Once each."""

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from http.client import HTTPException
from typing import Any
from urllib.request import Request, urlopen

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from feedback.models import MonitoringReport

log = logging.getLogger(__name__)

VIEW_REPORTS = "feedback.view_monitoringreport"
STALE = timedelta(days=1)  # what could not be told in a day isn't news any more
TIMEOUT = 5  # seconds


def send_report_alerts() -> int:
    """Send what has not been sent; return how many messages went out. What fails is tried again by the next call."""
    channels: dict[str, Callable[[MonitoringReport], bool]] = {"mailed_at": _mail}
    if settings.ALERT_WEBHOOK_URL:
        channels["posted_at"] = _post
    return sum(_send(field, send) for field, send in channels.items())


def staff_addresses(permission: str) -> list[str]:
    """Return the addresses of active staff who have the permission, "app.codename", themselves or by a group."""
    app, codename = permission.split(".")
    may = Q(is_superuser=True)
    for path in ("groups__permissions__", "user_permissions__"):
        may |= Q(**{f"{path}codename": codename, f"{path}content_type__app_label": app})
    people = get_user_model()._default_manager.filter(may, is_staff=True, is_active=True).distinct()
    return list(people.order_by("email").values_list("email", flat=True))


def mail_staff(permission: str, subject: str, body: str) -> bool:
    """Mail each of the staff with the permission alone: nobody sees who else is staff.

    Return whether any mail went out, or there is nobody; where not, a later try helps.
    """
    addresses = staff_addresses(permission)
    went = 0
    for address in addresses:
        try:
            went += send_mail(subject, body, None, [address])
        except OSError as error:
            log.error('The mail "%s" could not be sent: %s', subject, type(error).__name__)
    return bool(went) or not addresses


def _send(field: str, send: Callable[[MonitoringReport], bool]) -> int:
    """Send the reports whose `field`, when it was sent, is empty; return how many.

    A report's row stays locked meanwhile: nobody else sends it, and what breaks off is sent by the next call.
    """
    waiting = MonitoringReport.objects.filter(notifies=True, created_at__gte=timezone.now() - STALE, **{field: None})
    sent = 0
    for pk in list(waiting.order_by("created_at").values_list("pk", flat=True)):
        with transaction.atomic():
            report = waiting.select_for_update(skip_locked=True).filter(pk=pk).first()
            if report and send(report):
                sent += MonitoringReport.objects.filter(pk=pk).update(**{field: timezone.now()})
    return sent


def _mail(report: MonitoringReport) -> bool:
    body = _("%(summary)s\n\nThe admin's page Health tells more.") % {"summary": report.summary}
    if report.asks_retraining:
        body += "\n" + _("Retraining was asked for.")
    return mail_staff(VIEW_REPORTS, _("Aisle: %(kind)s") % {"kind": report.get_kind_display().lower()}, body)


def _post(report: MonitoringReport) -> bool:
    content: dict[str, Any] = {
        "text": report.summary,  # what chat programs show
        "kind": report.kind,
        "period": report.period,
        "start": report.start and report.start.isoformat(),
        "asks_retraining": report.asks_retraining,
        "figures": report.figures,
    }
    request = Request(  # noqa: S310 - the setting's scheme is checked at start
        settings.ALERT_WEBHOOK_URL, json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urlopen(request, timeout=TIMEOUT):  # noqa: S310
            return True
    except (OSError, HTTPException) as error:
        log.error("The webhook could not be told of %s: %s", report, type(error).__name__)
        return False
