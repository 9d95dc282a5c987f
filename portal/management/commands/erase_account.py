"""manage.py erase_account EMAIL: erase an account and everything that belongs to it."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from feedback.models import Erasure
from portal.models import User
from portal.privacy import services


class Command(BaseCommand):
    help = "Erase an account and everything that belongs to it. Workers do it within a few minutes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--yes", action="store_true", help="don't ask")

    def handle(self, *, email: str, yes: bool, **options: Any) -> None:
        user = User.objects.filter(email=email.lower()).first()
        if user is None:
            raise CommandError("There is no account with this e-mail address.")
        facts = f"account {user.pk}, joined {user.date_joined:%Y-%m-%d}, {user.products.count()} products"
        if not yes and input(f"Erase {facts} permanently? Type yes: ").strip().lower() != "yes":
            raise CommandError("Nothing was erased.")
        try:
            erasure = services.request_erasure(user=user, by=None, via=Erasure.Via.COMMAND, now=True)
        except services.Refused as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Scheduled erasure {erasure.pk}: {facts}. The list of erasures in the admin shows its progress."
        )
