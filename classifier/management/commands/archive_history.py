"""manage.py archive_history: empty the heavy columns of old predictions."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from classifier.archive import slimming
from common.object_storage import StorageDown

MONTH = timedelta(days=365 / 12)


class Command(BaseCommand):
    help = "Empty the heavy columns of old predictions, whose content is in the archive. Run it again to continue."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--older-than", type=int, required=True, metavar="MONTHS")
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def handle(self, *, older_than: int, dry_run: bool, **options: Any) -> None:
        if older_than < 1:
            raise CommandError("--older-than takes whole months, from 1 on.")
        before = timezone.now() - older_than * MONTH
        total = slimming.slimmable(before).count()
        if dry_run:
            self.stdout.write(f"{total} predictions created before {before:%Y-%m-%d} could be moved.")
            return
        try:
            outcome = slimming.slim_predictions(
                before=before, progress=lambda outcome: self._show_progress(outcome, total)
            )
        except StorageDown as error:
            raise CommandError(f"The archive does not answer ({error}). Nothing is lost: run it again.") from error
        self.stdout.write(f"Moved {outcome.moved} predictions created before {before:%Y-%m-%d}.")
        if outcome.missing:
            self.stdout.write(f"Left {outcome.missing} unchanged: their archive is missing.")

    def _show_progress(self, outcome: slimming.Outcome, total: int) -> None:
        self.stderr.write(f"{outcome.moved + outcome.missing} of {total}")
