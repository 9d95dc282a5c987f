"""What Aisle writes to people about their data. A message that can't be sent holds nothing up."""

import logging
from collections.abc import Iterable
from datetime import datetime
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import send_mail
from django.utils.formats import date_format
from django.utils.translation import gettext as _

log = logging.getLogger(__name__)


def erasure_asked(addresses: Iterable[str], due: datetime) -> None:
    text = _(
        "Somebody logged in to your Aisle account and asked us to erase it, with all products and photos. We do it "
        "on %(day)s.\n\nUntil then you can keep it: log in, open Account, and choose “Keep my account”. If this "
        "wasn't you, do that now and change your password."
    ) % {"day": date_format(due, "j F Y")}
    for address in addresses:
        _send(address, _("Your account will be erased"), text)


def erasure_cancelled(address: str) -> None:
    _send(address, _("Your account stays"), _("Your Aisle account will not be erased. Nothing has been deleted."))


def account_erased(address: str) -> None:
    text = _("Your Aisle account and what belonged to it are gone. This is the last message to this address.")
    _send(address, _("Your account is erased"), text)


def export_ready(address: str, until: datetime) -> None:
    _send(
        address,
        _("Your data is ready"),
        _(
            "The copy of your data that you asked for is ready. Log in to Aisle, open Account, and download it until "
            "%(day)s. After that we delete the file."
        )
        % {"day": date_format(until, "j F Y")},
    )


def export_failed(address: str) -> None:
    text = _("The copy of your data could not be made. Log in to Aisle, open Account, and ask for it again.")
    _send(address, _("Your data could not be put together"), text)


def _send(address: str, subject: str, text: str) -> None:
    try:
        send_mail(settings.ACCOUNT_EMAIL_SUBJECT_PREFIX + subject, text, None, [address])
    except (OSError, SMTPException) as error:
        log.error("A message about somebody's data could not be sent: %s", type(error).__name__)
