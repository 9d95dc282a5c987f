"""Measure every page and claim, and the database for it, over a million predictions of 50,000 sellers.

Fills a PostgreSQL of its own in a temporary folder, looks for fraud and counts the last month as beat would, opens the
real pages, and has PostgreSQL EXPLAIN (ANALYZE) every statement that they sent. See benchmarks/README.md.
"""

import argparse
import http.client
import json
import re
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.progress import log_step, track_progress
from benchmarks.harness.stack import prepare_database, running_web, set_up_home
from benchmarks.seeding import DUE, seed_shop

STATEMENT_BAR_MS, PAGE_BAR_MS = 50.0, 1000.0
REPEATS = 3
Statement = tuple[str, Any]


def measure_database(options: Options) -> Figures:
    """Return what every page and claim takes of the database, over a large shop."""
    rows = options.rows or (100_000 if options.quick else 1_000_000)
    set_up_home()
    prepare_database(pages=True)
    seed_shop(rows=rows, sellers=options.sellers)
    background = run_background_work()
    asked = seller_pages() | staff_pages() | claims()
    queries = [measure_request(name, ask) for name, ask in track_progress(list(asked.items()), "Pages and claims")]
    highest = {f"highest_{name}": max(each[name] for each in queries) for name in ("slowest_ms", "answer_ms")}
    return {
        "rows": rows,
        "sellers": options.sellers,
        **background,
        "first_answers_ms": time_first_pages(),
        "statement_bar_ms": STATEMENT_BAR_MS,
        "page_bar_ms": PAGE_BAR_MS,
        **highest,
        "queries": queries,
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --rows and --sellers."""
    parser.add_argument("--rows", type=int, help="stored predictions (default: 1,000,000)")
    parser.add_argument("--sellers", type=int, default=50_000)


def run_background_work() -> dict[str, float]:
    """Do what beat would have done by then; return how long it took."""
    from feedback.fraud_cases.detection import find_fraud
    from feedback.monitoring import alerts, hourly_summaries, starter_baselines

    log_step("Looking for fraud")
    began = time.perf_counter()
    opened = len(find_fraud().opened)
    fraud = time.perf_counter() - began
    assert opened, "No seller was flagged: there is no case to look at."
    log_step("Counting the last month")
    began = time.perf_counter()
    while hourly_summaries.update_summaries():
        pass
    counted = time.perf_counter() - began
    starter_baselines.create_missing_baselines()
    alerts.write_reports()
    return {"fraud_seconds": round(fraud, 1), "cases": opened, "summary_seconds": round(counted, 1)}


def time_first_pages() -> dict[str, int]:
    """Return how long the first page takes that a web process is asked for, in milliseconds by address."""
    from portal.models import User

    cookie = log_in(User.objects.get(email="admin@shop.example")).cookies["sessionid"].output(attrs=[], header="")
    found = {}
    for address in ("/admin/", "/admin/review/", "/admin/health/?days=30", "/admin/classifier/prediction/"):
        with running_web() as web:
            began = time.perf_counter()
            status = get_page(web.port, address, cookie.strip())
            found[address] = round(1000 * (time.perf_counter() - began))
            assert status == 200, f"{address}: {status}"
    return found


def get_page(port: int, path: str, cookie: str) -> int:
    """Return the status of a page of a running web process."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Cookie": cookie})
        return connection.getresponse().status
    finally:
        connection.close()


def page_request(client: Any, address: str) -> Callable[[], object]:
    def ask() -> None:
        status = client.get(address).status_code
        assert status == 200, f"{address}: {status}"

    return ask


def log_in(user: Any) -> Any:
    from django.test import Client

    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    return client


def seller_pages() -> dict[str, Callable[[], object]]:
    """Return the pages of the seller with the most products, by name."""
    from portal.models import Product
    from portal.products.paging import PAGE_SIZE

    largest = seller_with_most()
    theirs = Product.objects.for_seller(largest)
    product = theirs.latest("created_at")
    total = theirs.count()
    log_step(f"The largest seller has {total} products")
    seller = log_in(largest)
    return {
        "product list": page_request(seller, "/products/"),
        "product list, last page": page_request(seller, f"/products/?page={total // PAGE_SIZE}"),
        "product list, last by title": page_request(seller, f"/products/?sort=title&page={total // PAGE_SIZE}"),
        "product list, open ones": page_request(seller, "/products/?state=open"),
        "product list, open, last page": page_request(seller, "/products/?state=open&page=9999"),
        "product list, failed ones": page_request(seller, "/products/?state=failed"),
        "product list, waiting ones": page_request(seller, "/products/?state=waiting"),
        "product list, categorised ones": page_request(seller, "/products/?state=categorised"),
        "product list, none fits": page_request(seller, "/products/?state=no_category"),
        "product list, by two words": page_request(seller, "/products/?q=blue+steel"),
        "product list, by one word": page_request(seller, "/products/?q=blue"),
        "product list, by one word, newest": page_request(seller, "/products/?q=blue&sort=newest"),
        "product list, by a category's name": page_request(seller, "/products/?q=instruments"),
        "product list, by a word in all": page_request(seller, "/products/?q=product"),
        "product list, that, last page": page_request(seller, "/products/?q=product&page=9999"),
        "product list, by a number": page_request(seller, "/products/?q=12345"),
        "product list, by no one's word": page_request(seller, "/products/?q=astrolabe"),
        "product page": page_request(seller, f"/products/{product.pk}/"),
        "API: products": page_request(seller, "/api/v1/products"),
        "API: products, open ones": page_request(seller, "/api/v1/products?state=open"),
        "API: products, by two words": page_request(seller, "/api/v1/products?q=blue+steel"),
        "API: one prediction": page_request(seller, f"/api/v1/predictions/{product.prediction_id}"),
    }


def seller_with_most() -> Any:
    from django.db.models import Count

    from portal.models import Product, User

    by_products = Product.objects.values("seller").annotate(n=Count("*")).order_by("-n")
    return User.objects.get(pk=by_products.values_list("seller", flat=True)[0])


def staff_pages() -> dict[str, Callable[[], object]]:
    """Return the pages of those who work in the admin, by name."""
    from classifier.models import Category, ModelVersion, Prediction
    from feedback.models import Case, Feedback, Reason
    from portal.models import User

    staff = log_in(User.objects.create_superuser("admin@shop.example"))
    largest = seller_with_most()
    version = ModelVersion.objects.filter(modality="text").values_list("pk", flat=True)[0]
    category = Category.objects.order_by("slug")[1]
    prediction = Prediction.objects.finished().latest("created_at")
    answer = Feedback.objects.unreviewed().latest("answered_at")
    case = Case.objects.latest("opened_at")
    addresses = {
        "first screen": "",
        "predictions": "classifier/prediction/",
        "predictions, failed": "classifier/prediction/?state__exact=failed",
        "predictions, unusual": "classifier/prediction/?unusual__exact=text",
        "predictions, a version's": f"classifier/prediction/?text_version__id__exact={version}",
        "predictions of a seller": f"classifier/prediction/?q={largest.email}",
        "a prediction": f"classifier/prediction/{prediction.pk}/change/",
        "products": "portal/product/",
        "users": "portal/user/",
        "feedback": "feedback/feedback/",
        "feedback, open": "feedback/feedback/?review__exact=open",
        "an answer": f"feedback/feedback/{answer.pk}/change/",
        "review": "review/",
        "review, blind": "review/?blind=1",
        "review, a category": f"review/?category={category.pk}",
        "review, the largest seller": f"review/?seller={largest.email}",
        "review, a language": "review/?language=de",
        "review, a reason": f"review/?reason={Reason.UNUSUAL.value}",
        "review, low confidence": "review/?confidence=low",
        "new categories": "review/categories/",
        "export": "review/export/",
        "health": "health/?days=30",
        "health, a category": f"health/?days=30&category={category.slug}",
        "health, a language": "health/?days=30&language=en",
        "health, new sellers": "health/?days=30&cohort=month",
        "fraud cases": "feedback/case/",
        "a fraud case": f"feedback/case/{case.pk}/change/",
        "reports": "feedback/monitoringreport/",
        "log of changes": "admin/logentry/",
        "model versions": "classifier/modelversion/",
        "experiments": "experiments/text/",
        "experiments, 30 days": "experiments/text/?days=30",
    }
    return {f"admin: {name}": page_request(staff, f"/admin/{address}") for name, address in addresses.items()}


def claims() -> dict[str, Callable[[], object]]:
    """Return what workers ask, by name."""
    from django.conf import settings

    from classifier.models import Prediction
    from classifier.serving import queue_metrics
    from feedback.models import Feedback

    return {
        f"claim, {DUE} due": lambda: Prediction.objects.claim(limit=settings.BATCH_SIZE),
        "is anything due": lambda: Prediction.objects.due().exists(),
        "claim for the archive": lambda: Prediction.objects.finished().claim_unarchived(limit=50),
        "claim feedback for the archive": lambda: Feedback.objects.claim_unarchived(limit=50),
        "length of the queue": queue_metrics.measure_load,
    }


def measure_request(name: str, ask: Callable[[], object]) -> dict[str, Any]:
    """Return the slowest statement of a question with its plan, what all of them take, and the whole answer."""
    ask()  # caches of the process, pages of the database
    whole = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        statements_of(ask)
        whole.append(1000 * (time.perf_counter() - began))
    statements = statements_of(ask)
    explained = [explain_statement(*statement) for statement in statements]
    slowest = max(explained, key=lambda entry: entry["ms"])
    return {
        "name": name,
        "statements": len(statements),
        "slowest_ms": slowest["ms"],
        "total_ms": round(sum(entry["ms"] for entry in explained), 2),
        "answer_ms": round(statistics.median(whole)),
        "plan": slowest["plan"],
        "sql": slowest["sql"],
    }


def statements_of(ask: Callable[[], object]) -> list[Statement]:
    """Return the statements that a question sends; what it changes is taken back."""
    from django.db import connection, transaction

    sent: list[Statement] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if re.match(r"\s*(SELECT|UPDATE|INSERT|DELETE|WITH)\b", sql):
            sent.append((sql, params))
        return execute(sql, params, many, context)

    with transaction.atomic(), connection.execute_wrapper(note):
        ask()
        transaction.set_rollback(True)
    return sent


def explain_statement(sql: str, params: Any) -> dict[str, Any]:
    from django.db import connection, transaction

    times = []
    for _ in range(REPEATS):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
            found = cursor.fetchone()[0]
            transaction.set_rollback(True)
        top = (json.loads(found) if isinstance(found, str) else found)[0]
        times.append(top["Planning Time"] + top["Execution Time"])
    return {"ms": round(statistics.median(times), 2), "plan": " < ".join(plan_nodes(top["Plan"])), "sql": sql}


def plan_nodes(plan: dict[str, Any]) -> list[str]:
    """Return a plan's nodes from the top, with their indexes or tables and the rows that they read."""
    on = plan.get("Index Name") or plan.get("Relation Name")
    here = plan["Node Type"] + (f" {on}" if on else "") + f" ({plan.get('Actual Rows', 0):.0f})"
    return [here] + [line for child in plan.get("Plans", []) for line in plan_nodes(child)]


def print_report(figures: Figures) -> None:
    """Print a row for each page and claim, with the plan of its slowest statement."""
    print("  ".join(f"{name}: {value}" for name, value in figures.items() if name != "queries"))
    print(f"{'':34}{'statements':>11}{'slowest':>12}{'all':>12}{'answer':>11}")
    for each in figures["queries"]:
        is_over = each["slowest_ms"] >= STATEMENT_BAR_MS or each["answer_ms"] >= PAGE_BAR_MS
        times = f"{each['slowest_ms']:9.2f} ms{each['total_ms']:9.2f} ms{each['answer_ms']:8} ms"
        print(f"{each['name']:34}{each['statements']:11}{times}{'  over the bar' if is_over else ''}")
        print(f"    {each['plan'][:230]}")


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_database, print_report=print_report, add_options=add_options,
        quick="100,000 rows: about a minute",
    )  # fmt: skip
