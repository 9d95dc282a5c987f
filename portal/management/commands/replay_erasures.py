from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from common.object_storage import StorageDown
from feedback.models import Erasure
from portal.privacy import services


class Command(BaseCommand):
    help = "After a backup was restored: erase again what was erased before. Stop the workers first, start them after."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", metavar="YYYY-MM-DD", help="only what was asked for from this day on")
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def handle(self, *, since: str | None, dry_run: bool, **options: Any) -> None:
        try:
            start = datetime.fromisoformat(since).replace(tzinfo=UTC) if since else None
        except ValueError:
            raise CommandError("--since takes a day such as 2026-11-30.") from None
        try:
            again = services.read_ledger(since=start)
            if dry_run:
                self.stdout.write(f"{len(again)} erasures would be done again.")
                return
            for number, erasure in enumerate(again, start=1):
                services.replay(erasure)
                self.stderr.write(f"{number} of {len(again)}")
        except StorageDown as error:
            raise CommandError(f"The storage does not answer ({error}). Run it again: nothing is lost.") from error
        left = (
            Erasure.objects.filter(pk__in=[erasure.pk for erasure in again]).exclude(state=Erasure.State.DONE).count()
        )
        self.stdout.write(f"Replayed {len(again) - left} erasures.")
        if left:
            raise CommandError(f"{left} are not done yet: the workers go on with them, or run it again.")
