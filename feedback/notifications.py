"""Send each monitoring report that staff must know of once, by mail and by webhook.

A report is claimed with a lease, sent outside any transaction, and recorded as sent. A crash between sending and
recording repeats that one message when the lease ends.
"""

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from http.client import HTTPException
from typing import Any
from urllib.request import Request, urlopen

from django.conf import settings
from django.core.mail import send_mail
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from common.leases import Claim, claim_rows
from common.staff_mail import staff_addresses
from feedback.models import MonitoringReport

log = logging.getLogger(__name__)

VIEW_REPORTS = "feedback.view_monitoringreport"
MAX_AGE = timedelta(days=1)  # older reports are no longer sent
LEASE = timedelta(minutes=5)  # longer than one message can take with the timeouts of mail server and webhook
WEBHOOK_TIMEOUT = 5  # seconds

Send = Callable[[Claim[MonitoringReport]], bool]


def send_report_alerts() -> int:
    """Send the reports that were not sent yet; return how many messages were sent. The next call retries failures."""
    channels: dict[str, Send] = {"mailed_at": _mail_report}
    if settings.ALERT_WEBHOOK_URL:
        channels["posted_at"] = _post_report
    sent = 0
    for field, send in channels.items():
        sent += _send_pending(field, send)
    return sent


def mail_staff(permission: str, subject: str, body: str, claim: Claim[Any]) -> bool:
    """Mail each of the staff with the permission separately, so that no address is disclosed to the others.

    Return False where no mail could be sent, or where the claim was lost, so that the message must be sent again.
    """
    addresses = staff_addresses(permission)
    sent = 0
    for address in addresses:
        # A slow mail server can outlast the lease; then another worker sends the message, and this one must stop.
        if not claim.renew():
            return False
        try:
            sent += send_mail(subject, body, None, [address])
        except OSError as error:
            log.error('The mail "%s" could not be sent: %s', subject, type(error).__name__)
    return bool(sent) or not addresses


def _send_pending(field: str, send: Send) -> int:
    """Send the reports whose `field`, the time when they were sent, is empty; return how many were sent."""
    pending = MonitoringReport.objects.filter(
        notifies=True, created_at__gte=timezone.now() - MAX_AGE, **{field: None}
    ).order_by("created_at")  # fmt: skip
    tried: list[int] = []
    sent = 0
    # One report at a time: a lease over many reports would run out before the last of them is sent.
    while claim := claim_rows(pending.exclude(pk__in=tried), limit=1, duration=LEASE):
        tried.append(claim.rows[0].pk)
        if send(claim):
            sent += claim.record(**{field: Now()})
        else:
            claim.release()
    return sent


def _mail_report(claim: Claim[MonitoringReport]) -> bool:
    report = claim.rows[0]
    body = _("%(summary)s\n\nSee the Health page in the admin for details.") % {"summary": report.summary}
    if report.asks_retraining:
        body += "\n" + _("A training run has been requested.")
    subject = _("Aisle: %(kind)s") % {"kind": report.get_kind_display().lower()}
    return mail_staff(VIEW_REPORTS, subject, body, claim)


def _post_report(claim: Claim[MonitoringReport]) -> bool:
    report = claim.rows[0]
    content: dict[str, Any] = {
        "text": report.summary,  # the field that chat programs show
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
        with urlopen(request, timeout=WEBHOOK_TIMEOUT):  # noqa: S310
            return True
    except (OSError, HTTPException) as error:
        log.error("The webhook could not be called with %s: %s", report, type(error).__name__)
        return False
