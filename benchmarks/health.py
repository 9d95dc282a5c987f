"""Measure the summaries of one day, the counting of late answers, and the pages over them.

Fills a PostgreSQL of its own in a temporary folder with a week of a few predictions, which become drift's reference,
and a day of many. See benchmarks/README.md.
"""

import argparse
import resource
import time
from datetime import UTC, datetime, timedelta

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.progress import log_step
from benchmarks.harness.stack import prepare_database, set_up_home
from benchmarks.seeding import seed_shop

WEEK = 3_500  # predictions of the week before
SPREAD = """
    UPDATE classifier_prediction SET finished_at = CASE WHEN number <= %(week)s
        THEN %(start)s + (number - 0.5) / %(week)s * interval '7 days'
        ELSE %(day)s + (number - %(week)s - 0.5) / %(rows)s * interval '1 day' END
    FROM (SELECT id, row_number() OVER () AS number FROM classifier_prediction WHERE state = 'done') AS numbered
    WHERE numbered.id = classifier_prediction.id
"""


def measure_health(options: Options) -> Figures:
    """Return the seconds that summaries and pages take over a day of predictions."""
    rows = options.rows or (20_000 if options.quick else 100_000)
    set_up_home()
    prepare_database(pages=True)
    seed_shop(rows=rows + WEEK, sellers=1_000)
    from django.db import connection

    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    start = day - timedelta(days=7)
    with connection.cursor() as cursor:
        cursor.execute(SPREAD, {"week": WEEK, "rows": rows, "start": start, "day": day})
        cursor.execute("VACUUM (ANALYZE)")
    return {"rows": rows, **measure_day(start, day)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --rows."""
    parser.add_argument("--rows", type=int, help="predictions of the day (default: 100,000)")


def measure_day(start: datetime, day: datetime) -> dict[str, float]:
    """Summarise the day, open the pages over it, and return how long each took."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from feedback.experiments.counts import read_version_periods
    from feedback.models import HealthSummary, MonitoringReport
    from feedback.monitoring import alerts, hourly_summaries, starter_baselines
    from portal.models import User

    while hourly_summaries.update_summaries(now=day + timedelta(minutes=5)):
        pass
    assert starter_baselines.create_missing_baselines(now=day + timedelta(minutes=5))
    before = peak_memory()
    log_step("Summarising the day")
    end = day + timedelta(days=1, minutes=5)
    began, used = time.perf_counter(), time.process_time()
    hours = hourly_summaries.update_summaries(now=end)
    took, used = time.perf_counter() - began, time.process_time() - used
    assert len(hours) == 24
    began = time.perf_counter()
    reports = alerts.write_reports(now=end)
    watched = time.perf_counter() - began
    assert len(reports) >= 25 and MonitoringReport.objects.exists()
    HealthSummary.objects.filter(period="hour", start__gte=day).update(is_stale=True)
    began = time.perf_counter()
    hourly_summaries.update_summaries(now=end)
    again = time.perf_counter() - began
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("admin@shop.example"))
    pages = []
    for _repeat in range(4):
        began = time.perf_counter()
        with CaptureQueriesContext(connection) as asked:
            assert client.get("/admin/health/?days=30").status_code == 200
        pages.append(time.perf_counter() - began)
    HealthSummary.objects.filter(period="hour", start=day + timedelta(hours=23)).delete()
    versions = []
    for _repeat in range(3):
        began = time.perf_counter()
        work = read_version_periods("text", start, day + timedelta(days=1))
        versions.append(time.perf_counter() - began)
    assert sum(each.counts.answered for each in work) >= summarised_rows(day)
    return {
        "summarising the day, s": round(took, 1),
        "of it processor time, s": round(used, 1),
        "rows a second": round(summarised_rows(day) / took),
        "counting 24 hours' answers again, s": round(again, 1),
        "comparing 24 hours and the day, s": round(watched, 1),
        "memory before, MB": before,
        "highest memory, MB": peak_memory(),
        "health page, ms": round(1000 * min(pages[1:])),
        "its queries": len(asked),
        "figures of Experiments, an hour not summarised, ms": round(1000 * min(versions)),
    }


def summarised_rows(day: datetime) -> int:
    from feedback.models import HealthSummary, Period

    return sum(row.volume["done"] for row in HealthSummary.objects.of_period(Period.DAY).filter(start=day))


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    run_benchmark(__doc__, measure_health, add_options=add_options, quick="20,000 predictions")
