"""Run fraud detection now and print the most suspicious sellers."""

from collections.abc import Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser

from feedback.fraud_cases import detection, services, shared_content
from feedback.fraud_cases.descriptions import format_rate
from feedback.models.cases import Case
from feedback.statistics.fraud import SellerFinding

COLUMNS = ("seller", "category", "evidence", "rate", "peers", "honest", "q", "flagged", "case")


class Command(BaseCommand):
    help = "Run fraud detection over all sellers now, as beat does every hour, and print the most suspicious ones."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--most", type=int, default=20, metavar="N", help="how many sellers to print (20)")

    def handle(self, *, most: int, **options: Any) -> None:
        run = detection.find_fraud()
        services.mail_new_cases()
        shared_content.hash_photos()
        findings = run.findings.findings
        shown = [finding for finding in findings[: max(most, 0)] if finding.evidence]
        if shown:
            self._print_table(shown, run.slugs)
        flagged = len(run.findings.flagged)
        self.stdout.write(f"{len(findings)} sellers assessed, {flagged} flagged, {len(run.opened)} cases opened.")

    def _print_table(self, findings: Sequence[SellerFinding], slugs: Sequence[str]) -> None:
        sellers = [finding.seller for finding in findings]
        accounts = get_user_model()._default_manager.in_bulk(sellers)
        states = dict(Case.objects.standing().filter(seller__in=sellers).values_list("seller", "state"))
        rows = [COLUMNS]
        for finding in findings:
            account = accounts.get(finding.seller)
            name = account.get_username() if account else "–"  # erased since the answers were read
            rows.append((name, *_format_figures(finding, slugs), states.get(finding.seller, "")))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            self.stdout.write("  ".join(cells).rstrip())


def _format_figures(finding: SellerFinding, slugs: Sequence[str]) -> tuple[str, str, str, str, str, str, str]:
    return (
        "" if finding.favourite is None else slugs[finding.favourite],
        f"{finding.evidence} of {finding.chances}",
        format_rate(finding.rate),
        format_rate(finding.peers_rate),
        format_rate(finding.allowed_rate),
        f"{finding.q:.2g}",
        "yes" if finding.flagged else "no",
    )
