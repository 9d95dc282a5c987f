"""What the database needs for each page and each claim, with a million predictions of 50,000 sellers in it.

Fills a PostgreSQL of its own in a temporary folder, opens the real pages, and has PostgreSQL EXPLAIN (ANALYZE) every
statement that they sent. See benchmarks/README.md.
"""

import argparse
import json
import re
import signal
import statistics
import sys
from collections.abc import Callable
from typing import Any

from machine import cpu_model
from progress import say, track
from seeding import DUE, seed
from stack import set_up_home

BAR_MS = 50.0
REPEATS = 3
Statement = tuple[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100,000 rows: about a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--rows", type=int, help="stored predictions (default: 1,000,000)")
    parser.add_argument("--sellers", type=int, default=50_000)
    options = parser.parse_args()
    rows = options.rows or (100_000 if options.quick else 1_000_000)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    set_up_home()
    import django

    django.setup()
    from django.core.management import call_command

    say("Preparing the database")
    for command in (["migrate", "-v0"], ["prepare", "-v0"], ["collectstatic", "--no-input", "-v0"]):
        call_command(*command, stdout=sys.stderr)
    seed(rows=rows, sellers=options.sellers)
    results = [measure(name, ask) for name, ask in track(list(questions().items()), "Pages and claims")]
    report(rows, options.sellers, results, as_json=options.json)


def questions() -> dict[str, Callable[[], object]]:
    """Return what is asked, by name: the pages of the seller with the most products, the admin's lists, the claims."""
    from django.conf import settings
    from django.db.models import Count
    from django.test import Client

    from classifier import queue
    from classifier.models import ModelVersion, Prediction
    from feedback.models import Feedback
    from portal.models import Product, User
    from portal.paging import PAGE_SIZE

    largest = User.objects.get(
        pk=Product.objects.values("seller").annotate(n=Count("*")).order_by("-n").values_list("seller", flat=True)[0]
    )
    theirs = Product.objects.for_seller(largest)
    product = theirs.latest("created_at")
    total = theirs.count()
    say(f"The largest seller has {total} products")
    seller, staff = Client(headers={"host": "localhost"}), Client(headers={"host": "localhost"})
    seller.force_login(largest)
    staff.force_login(User.objects.create_superuser("admin@shop.example"))
    version = ModelVersion.objects.filter(modality="text").values_list("pk", flat=True)[0]

    def page(client: Client, address: str) -> Callable[[], object]:
        def ask() -> None:
            status = client.get(address).status_code
            assert status == 200, f"{address}: {status}"

        return ask

    return {
        "product list": page(seller, "/products/"),
        "product list, last page": page(seller, f"/products/?page={total // PAGE_SIZE}"),
        "product list, last by title": page(seller, f"/products/?sort=title&page={total // PAGE_SIZE}"),
        "product list, open ones": page(seller, "/products/?state=open"),
        "product list, open, last page": page(seller, "/products/?state=open&page=9999"),
        "product list, failed ones": page(seller, "/products/?state=failed"),
        "product list, waiting ones": page(seller, "/products/?state=waiting"),
        "product list, shelved ones": page(seller, "/products/?state=shelved"),
        "product list, none fits": page(seller, "/products/?state=homeless"),
        "product list, by two words": page(seller, "/products/?q=blue+steel"),
        "product list, by one word": page(seller, "/products/?q=blue"),
        "product list, by a word in all": page(seller, "/products/?q=product"),
        "product list, that, last page": page(seller, "/products/?q=product&page=9999"),
        "product list, by a number": page(seller, "/products/?q=12345"),
        "product list, by no one's word": page(seller, "/products/?q=astrolabe"),
        "product page": page(seller, f"/products/{product.pk}/"),
        "API: products": page(seller, "/api/v1/products"),
        "API: products, open ones": page(seller, "/api/v1/products?state=open"),
        "API: products, by two words": page(seller, "/api/v1/products?q=blue+steel"),
        "API: one prediction": page(seller, f"/api/v1/predictions/{product.prediction_id}"),
        "admin: predictions": page(staff, "/admin/classifier/prediction/"),
        "admin: predictions, failed": page(staff, "/admin/classifier/prediction/?state__exact=failed"),
        "admin: predictions, a version's": page(
            staff, f"/admin/classifier/prediction/?text_version__id__exact={version}"
        ),
        "admin: predictions of a seller": page(staff, f"/admin/classifier/prediction/?q={largest.email}"),
        "admin: products": page(staff, "/admin/portal/product/"),
        "admin: feedback": page(staff, "/admin/feedback/feedback/"),
        "admin: feedback, open": page(staff, "/admin/feedback/feedback/?review__exact=open"),
        f"claim, {DUE} due": lambda: Prediction.objects.claim(limit=settings.BATCH_SIZE),
        "is anything due": lambda: Prediction.objects.due().exists(),
        "claim for the archive": lambda: Prediction.objects.finished().claim_unarchived(limit=50),
        "claim feedback for the archive": lambda: Feedback.objects.claim_unarchived(limit=50),
        "length of the queue": queue.measure,
    }


def measure(name: str, ask: Callable[[], object]) -> dict[str, Any]:
    """Return the slowest statement of a question with its plan, and what all of them take."""
    ask()  # caches of the process, pages of the database
    statements = sent_by(ask)
    explained = [explain(*statement) for statement in statements]
    slowest = max(explained, key=lambda entry: entry["ms"])
    return {
        "name": name,
        "statements": len(statements),
        "slowest_ms": slowest["ms"],
        "total_ms": round(sum(entry["ms"] for entry in explained), 2),
        "plan": slowest["plan"],
        "sql": slowest["sql"],
    }


def sent_by(ask: Callable[[], object]) -> list[Statement]:
    """Return the statements that a question sends; what it changes is taken back."""
    from django.db import connection, transaction

    sent: list[Statement] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if re.match(r"(SELECT|UPDATE|INSERT|DELETE|WITH)\b", sql):
            sent.append((sql, params))
        return execute(sql, params, many, context)

    with transaction.atomic(), connection.execute_wrapper(note):
        ask()
        transaction.set_rollback(True)
    return sent


def explain(sql: str, params: Any) -> dict[str, Any]:
    from django.db import connection, transaction

    times = []
    for _ in range(REPEATS):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
            found = cursor.fetchone()[0]
            transaction.set_rollback(True)
        top = (json.loads(found) if isinstance(found, str) else found)[0]
        times.append(top["Planning Time"] + top["Execution Time"])
    return {"ms": round(statistics.median(times), 2), "plan": " < ".join(nodes(top["Plan"])), "sql": sql}


def nodes(plan: dict[str, Any]) -> list[str]:
    """Return a plan's nodes from the top, with their indexes or tables and the rows that they read."""
    on = plan.get("Index Name") or plan.get("Relation Name")
    here = plan["Node Type"] + (f" {on}" if on else "") + f" ({plan.get('Actual Rows', 0):.0f})"
    return [here] + [line for child in plan.get("Plans", []) for line in nodes(child)]


def report(rows: int, sellers: int, results: list[dict[str, Any]], *, as_json: bool) -> None:
    print(f"{'':34}{'statements':>11}{'slowest':>12}{'all':>12}")
    for each in results:
        over = "  over the bar" if each["slowest_ms"] >= BAR_MS else ""
        print(f"{each['name']:34}{each['statements']:11}{each['slowest_ms']:9.2f} ms{each['total_ms']:9.2f} ms{over}")
        print(f"    {each['plan'][:230]}")
    if as_json:
        worst = max(each["slowest_ms"] for each in results)
        figures = {"rows": rows, "sellers": sellers, "cpu": cpu_model(), "bar_ms": BAR_MS, "slowest_ms": worst}
        print(json.dumps(figures | {"queries": results}))


if __name__ == "__main__":
    main()
