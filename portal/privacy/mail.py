"""Mail people about their erasure or data export; a failure to send is logged and raises nothing."""

import logging
from collections.abc import Iterable
from datetime import datetime
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import send_mail
from django.utils.formats import date_format
from django.utils.translation import gettext as _

log = logging.getLogger(__name__)


def mail_scheduled_erasure(addresses: Iterable[str], due: datetime) -> None:
    text = _(
        "Someone who is logged in to your Aisle account asked us to erase it, with all products and photos. We will do "
        "this on %(day)s.\n\nUntil then you can keep it: log in, open Account, and choose “Keep my account”. If this "
        "wasn't you, do that now and change your password."
    ) % {"day": date_format(due, "j F Y")}
    for address in addresses:
        _send(address, _("Your account will be erased"), text)


def mail_cancelled_erasure(address: str) -> None:
    _send(address, _("Your account stays"), _("Your Aisle account will not be erased. Nothing has been deleted."))


def mail_finished_erasure(address: str) -> None:
    text = _(
        "Your Aisle account and everything that belonged to it have been erased. This is the last message to this "
        "address."
    )
    _send(address, _("Your account has been erased"), text)


def mail_ready_export(address: str, until: datetime) -> None:
    _send(
        address,
        _("Your data is ready"),
        _(
            "The copy of your data that you requested is ready. Log in to Aisle, open Account, and download it until "
            "%(day)s. After that we delete the file."
        )
        % {"day": date_format(until, "j F Y")},
    )


def mail_failed_export(address: str) -> None:
    text = _("The copy of your data could not be created. Log in to Aisle, open Account, and request it again.")
    _send(address, _("The copy of your data could not be created"), text)


def _send(address: str, subject: str, text: str) -> None:
    try:
        send_mail(settings.ACCOUNT_EMAIL_SUBJECT_PREFIX + subject, text, None, [address])
    except (OSError, SMTPException) as error:
        log.error("A message about an erasure or export could not be sent: %s", type(error).__name__)
