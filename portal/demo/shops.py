"""The demo's people: shops that sell, and staff who review."""

import csv
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from allauth.account.models import EmailAddress

from portal.accounts.roles import Role
from portal.models import User
from portal.operations.demo_accounts import demo_accounts

SHOPS = Path(__file__).with_name("shops.csv")
COLLEAGUE = "colleague@example.com"
GENERAL, MISLABELLING, GERMAN = "general", "mislabelling", "german"


@dataclass(frozen=True)
class Shop:
    """A seller's account, and what it sells: the share of groceries, which have photos, and its other categories."""

    user: User
    kind: str
    weight: float
    groceries: float
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Staff:
    """Who reviews answers, and who gives the second opinions."""

    scientist: User
    colleague: User


def make_shops(now: datetime) -> list[Shop]:
    """Create the accounts of all shops; the first one belongs to the demo's seller, who can log in."""
    demo_seller = _demo_user(Role.SELLER)
    shops = []
    with SHOPS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            user = _make_user(row["email"], Role.SELLER) if row["email"] else demo_seller
            user.name = row["name"]
            user.date_joined = now - timedelta(days=int(row["joined_days_ago"]))
            user.save()
            shops.append(
                Shop(
                    user=user,
                    kind=row["kind"],
                    weight=float(row["weight"]),
                    groceries=float(row["groceries"]),
                    categories=tuple(row["categories"].split()),
                )
            )
    return shops


def make_staff() -> Staff:
    return Staff(_demo_user(Role.DATA_SCIENTIST), _make_user(COLLEAGUE, Role.DATA_SCIENTIST))


def _demo_user(role: Role) -> User:
    email = next(account.email for account in demo_accounts() if account.role == role)
    return User.objects.get(email=email)


def _make_user(email: str, role: Role) -> User:
    """Create an account without a password, so that no one can log in to it."""
    user = User.objects.create_user(email, None, is_staff=role != Role.SELLER)
    role.assign_to(user)
    EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
    return user
