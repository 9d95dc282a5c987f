"""Telling people what a monitor found: by mail to those who may read reports, and by a webhook. Once each."""

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
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from feedback.models import MonitoringReport

log = logging.getLogger(__name__)

STALE = timedelta(days=1)  # what could not be told in a day isn't news any more
TIMEOUT = 5  # seconds


def deliver() -> int:
    """Send what has not been sent; return how many messages went out. What fails is tried again by the next call."""
    channels: dict[str, Callable[[MonitoringReport], bool]] = {"mailed_at": _mail}
    if settings.ALERT_WEBHOOK_URL:
        channels["posted_at"] = _post
    return sum(_send(field, send) for field, send in channels.items())


def scientists() -> list[str]:
    """Return the addresses of staff who may read monitoring reports."""
    permission = {"codename": "view_monitoringreport", "content_type__app_label": "feedback"}
    may = Q(is_superuser=True)
    for path in ("groups__permissions__", "user_permissions__"):
        may |= Q(**{f"{path}{name}": value for name, value in permission.items()})
    people = get_user_model()._default_manager.filter(may, is_staff=True, is_active=True).distinct()
    return list(people.order_by("email").values_list("email", flat=True))


def _send(field: str, send: Callable[[MonitoringReport], bool]) -> int:
    now = timezone.now()
    waiting = MonitoringReport.objects.filter(notifies=True, created_at__gte=now - STALE, **{field: None})
    sent = 0
    for report in waiting.order_by("created_at"):
        mine = MonitoringReport.objects.filter(pk=report.pk, **{field: None})
        if not mine.update(**{field: now}):  # another process sends it
            continue
        if send(report):
            sent += 1
        else:
            MonitoringReport.objects.filter(pk=report.pk).update(**{field: None})
    return sent


def _mail(report: MonitoringReport) -> bool:
    """Mail each of them alone: nobody sees who else is staff. Whether any mail went out, or there is nobody."""
    addresses = scientists()
    body = _("%(summary)s\n\nThe admin's page Health tells more.") % {"summary": report.summary}
    if report.asks_retraining:
        body += "\n" + _("Retraining was asked for.")
    subject = _("Aisle: %(kind)s") % {"kind": report.get_kind_display().lower()}
    went = 0
    for address in addresses:
        try:
            went += send_mail(subject, body, None, [address])
        except OSError as error:
            log.error("The mail about %s could not be sent: %s", report, type(error).__name__)
    return bool(went) or not addresses


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
