"""Create the three accounts of a demo installation, with random passwords kept in AISLE_HOME."""

import json
import os
import secrets
from dataclasses import asdict, dataclass

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import transaction

from portal.accounts.roles import Role
from portal.models import User

FILE = "demo-accounts.json"
PEOPLE = {
    "seller@example.com": Role.SELLER,
    "scientist@example.com": Role.DATA_SCIENTIST,
    "admin@example.com": Role.ADMINISTRATOR,
}


@dataclass(frozen=True)
class Account:
    email: str
    role: str
    password: str


def demo_accounts() -> list[Account]:
    """Return the demo accounts, creating those that are missing. A password that was changed stays."""
    accounts = _read()
    for account in accounts:
        _create(account)
    return accounts


def _read() -> list[Account]:
    path = settings.AISLE_HOME / FILE
    if not path.exists():
        made = [Account(email, role, secrets.token_urlsafe(9)) for email, role in PEOPLE.items()]
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump([asdict(account) for account in made], file, indent=1)
    return [Account(**entry) for entry in json.loads(path.read_text())]


@transaction.atomic
def _create(account: Account) -> None:
    if User.objects.filter(email=account.email).exists():
        return
    role = Role(account.role)
    user = User.objects.create_user(
        account.email,
        account.password,
        is_staff=role != Role.SELLER,
        is_superuser=role == Role.ADMINISTRATOR,
    )
    role.assign_to(user)
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
