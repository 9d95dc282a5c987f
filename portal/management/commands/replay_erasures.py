"""manage.py replay_erasures: repeat past erasures after restoring a backup."""

from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from common.object_storage import StorageDown
from feedback.models import Erasure
from portal.privacy import services


class Command(BaseCommand):
    help = "Repeat past erasures after restoring a backup. Stop the workers first and start them afterwards."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", metavar="YYYY-MM-DD", help="only erasures requested from this day on")
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def handle(self, *, since: str | None, dry_run: bool, **options: Any) -> None:
        try:
            start = datetime.fromisoformat(since).replace(tzinfo=UTC) if since else None
        except ValueError:
            raise CommandError("--since takes a day such as 2026-11-30.") from None
        try:
            again = services.read_ledger(since=start)
            if dry_run:
                self.stdout.write(f"{len(again)} erasures would be repeated.")
                return
            for number, erasure in enumerate(again, start=1):
                services.replay_erasure(erasure)
                self.stderr.write(f"{number} of {len(again)}")
        except StorageDown as error:
            raise CommandError(
                f"The storage does not answer ({error}). Run it again later: nothing is lost."
            ) from error
        left = (
            Erasure.objects.filter(pk__in=[erasure.pk for erasure in again]).exclude(state=Erasure.State.DONE).count()
        )
        self.stdout.write(f"Replayed {len(again) - left} erasures.")
        if left:
            raise CommandError(f"{left} are not finished: the workers continue them, or run this command again.")
