"""Update the health page's summaries from the command line."""

from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from feedback.monitoring import hourly_summaries


class Command(BaseCommand):
    help = "Update the health page's summaries, as the schedule does; with --since, count the hours from then on again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", help="a day in UTC, such as 2026-11-01")

    def handle(self, *, since: str | None, **options: Any) -> None:
        try:
            start = datetime.fromisoformat(since).replace(tzinfo=UTC) if since else None
        except ValueError:
            raise CommandError(f"{since!r} is not a day: write it as 2026-11-01.") from None
        hours = hourly_summaries.update_summaries(since=start)
        if hours:
            self.stdout.write(f"Hours written: {len(hours)}, up to {hours[-1]:%Y-%m-%d %H:%M}.")
        else:
            self.stdout.write("Nothing to write: all past hours are counted, or another process is counting them.")
