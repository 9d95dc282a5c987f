"""manage.py prepare: load categories, roles, reference products and starter models."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from classifier.services import fill_missing_labels, load_categories, load_reference_products, register_starters
from common.formatting import format_percent
from portal.accounts.roles import prepare_roles
from portal.operations.demo_accounts import demo_accounts


class Command(BaseCommand):
    help = "Load the categories, roles, reference products and starter models. Running it again changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--demo", action="store_true", help="also create three demo accounts")

    def handle(self, *, demo: bool, **options: Any) -> None:
        prepare_roles()
        self.stdout.write(f"Categories: {load_categories()}")
        self.stdout.write(f"Reference products: {load_reference_products()}")
        for variant in register_starters():
            accuracy = format_percent(variant.version.accuracy, 1)
            self.stdout.write(f"Deployed: {variant.version}, accuracy {accuracy}, {variant.weight}% of traffic")
        fill_missing_labels()
        if demo:
            for account in demo_accounts():
                self.stdout.write(f"{account.role:15} {account.email:22} {account.password}")
