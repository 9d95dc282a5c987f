from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser

from feedback.fraud_cases import detection, services, shared_content
from feedback.fraud_cases.descriptions import format_percent
from feedback.models.cases import Case
from feedback.statistics.fraud import SellerFinding


class Command(BaseCommand):
    help = "Judge all sellers by their answers now, as beat does every hour, and show the most suspicious ones."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--most", type=int, default=20, metavar="N", help="how many sellers to show (20)")

    def handle(self, *, most: int, **options: Any) -> None:
        found = detection.find_fraud()
        services.mail_new_cases()
        shared_content.hash_photos()
        findings = found.judgement.findings
        shown = [finding for finding in findings[: max(most, 0)] if finding.evidence]
        if shown:
            sellers = [finding.seller for finding in shown]
            people = get_user_model()._default_manager.in_bulk(sellers)
            standing = dict(Case.objects.standing().filter(seller__in=sellers).values_list("seller", "state"))
            head = ("seller", "into", "evidence", "rate", "peers", "honest", "q", "flagged", "case")
            rows = [(_name(people.get(f.seller)), *_figures(f, found.slugs), standing.get(f.seller, "")) for f in shown]
            width = [max(len(str(cell)) for cell in column) for column in zip(head, *rows, strict=True)]
            for row in (head, *rows):
                cells = (str(cell).ljust(size) for cell, size in zip(row, width, strict=True))
                self.stdout.write("  ".join(cells).rstrip())
        flagged = len(found.judgement.flagged)
        self.stdout.write(f"{len(findings)} sellers judged, {flagged} flagged, {len(found.opened)} cases opened.")


def _name(user: Any) -> str:
    return user.get_username() if user else "–"  # erased meanwhile


def _figures(finding: SellerFinding, slugs: list[str]) -> tuple[str, ...]:
    into = "" if finding.favourite is None else slugs[finding.favourite]
    return (
        into,
        f"{finding.evidence} of {finding.chances}",
        format_percent(finding.rate),
        format_percent(finding.peers_rate),
        format_percent(finding.allowed_rate),
        f"{finding.q:.2g}",
        "yes" if finding.flagged else "no",
    )
