import io
import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape

from classifier.models import Category, DistributionDetector, Prediction
from feedback.models import HealthSummary, MonitoringReport
from feedback.monitoring import alerts, starter_baselines
from feedback.statistics.drift.codes import OLDER_NAMES
from portal.models import User
from tests.support.accounts import logged_in_client
from tests.support.traffic import DAY, HOUR, SPANISH, TODAY, live_pair, store_answer, store_predictions


def page(client: Client, **asked: str) -> str:
    response = client.get(reverse("model_health"), asked)
    assert response.status_code == 200
    return response.content.decode()


def test_before_anything_was_counted_the_page_says_so(scientist: User) -> None:
    client = logged_in_client(scientist)
    assert "Nothing has been counted yet" in page(client)
    assert reverse("model_health") in client.get(reverse("admin:index")).content.decode()


def test_the_page_shows_figures_with_intervals_and_where_they_are_missing(scientist: User, busy: None) -> None:
    client = logged_in_client(scientist)
    week = page(client)
    for words in (
        "Accepted: the first suggestion",
        "75.0%",
        "n 120",
        "Weight by these figures",
        "Expected calibration error",
    ):
        assert words in week, words
    assert "Accuracy, estimated" in week and "not enough data" not in week.split("Each model")[0].split("Time")[0]
    hours = page(client, days="1")
    assert "The last counted hour" in hours
    text, image = live_pair()
    one = page(client, days="30", pair=f"{text}-{image}")
    assert "Weight registered" in one and "No estimate" in one


def test_a_day_of_few_predictions_claims_nothing(scientist: User, seller: User) -> None:
    for row in store_predictions(seller, TODAY - DAY, 3):
        store_answer(row)
    call_command("summarise", since=f"{TODAY - DAY:%Y-%m-%d}", stdout=io.StringIO())
    found = page(logged_in_client(scientist))
    assert "not enough data: 3 of 30" in found and "100.0%" not in found
    assert "Not enough data: 3 of 30 reviewed products of the random share." in found
    assert "There is no baseline to compare with yet" in found


def test_a_cell_of_the_heat_map_shows_its_products(scientist: User, seller: User, busy: None) -> None:
    client = logged_in_client(scientist)
    mug, guitar = Category.objects.order_by("slug")[:2]
    week = page(client)
    assert f"true={guitar.slug}&amp;given={mug.slug}#examples" in week
    behind = page(client, true=guitar.slug, given=mug.slug)
    assert escape(f"{guitar.name}, predicted as {mug.name}: the most confident ones") in behind
    section = behind.split('id="examples"')[1]
    assert section.count("<li>") >= 3
    Prediction.objects.all().delete()  # as an erasure does
    assert "These products don't exist any more." in page(client, true=guitar.slug, given=mug.slug)


def without_tokens_and_clock(html: str) -> str:
    """Return the page without what differs each time it is shown: the form's tokens and the time of day."""
    return re.sub('value="[A-Za-z0-9]{64}"|0 is [-0-9]+ [0-9:]+ UTC', "", html)


def store_as_older_version(report: MonitoringReport) -> None:
    """Rewrite the codes in the report as the English words that older versions stored."""
    figures = json.dumps(report.figures)
    for words, code in OLDER_NAMES.items():
        figures = figures.replace(f'"{code}"', f'"{words}"')
    assert figures != json.dumps(report.figures)
    MonitoringReport.objects.filter(pk=report.pk).update(figures=json.loads(figures))


def test_drift_is_shown_with_the_products_that_moved_most(scientist: User, busy: None) -> None:
    now = TODAY + HOUR
    assert starter_baselines.create_missing_baselines(now=now)
    call_command("summarise", since=f"{TODAY - DAY:%Y-%m-%d}", stdout=io.StringIO())
    alerts.write_reports(now=now)
    found = page(logged_in_client(scientist))
    assert "Changed most in language" in found and SPANISH in found
    assert "its own first days in use" in found
    report = MonitoringReport.objects.filter(breached=True).latest("start")
    store_as_older_version(report)
    assert without_tokens_and_clock(page(logged_in_client(scientist))) == without_tokens_and_clock(found)
    shown = logged_in_client(scientist).get(reverse("admin:feedback_monitoringreport_change", args=[report.pk]))
    assert "language" in shown.content.decode()
    assert logged_in_client(scientist).get(reverse("admin:feedback_monitoringreport_changelist")).status_code == 200


def test_the_page_narrows_to_a_category_and_a_language(scientist: User, busy: None) -> None:
    client = logged_in_client(scientist)
    mug = Category.objects.order_by("slug")[0]
    narrowed = page(client, category=mug.slug)
    assert narrowed.count("Of all products in this period, not only these.") == 1  # the confusions are those of mugs
    assert f"Only {mug.name}" in narrowed and "Correct, of the reviewed" in narrowed and "Each model" not in narrowed
    assert "Only es" in page(client, language="es")
    deleted = page(client, language="xx")
    assert "not enough data" in deleted


def test_the_page_narrows_to_sellers_by_how_long_they_have_been_here(
    scientist: User, seller: User, other_seller: User
) -> None:
    hour = TODAY - DAY
    User.objects.filter(pk=seller.pk).update(date_joined=hour - 400 * DAY)
    User.objects.filter(pk=other_seller.pk).update(date_joined=hour - 3 * DAY)
    for place, row in enumerate(store_predictions(seller, hour, 60)[:40]):
        store_answer(row, right=place % 4 > 0)
    store_predictions(other_seller, hour, 7)
    call_command("summarise", since=f"{hour:%Y-%m-%d}", stdout=io.StringIO())
    client = logged_in_client(scientist)
    table = page(client, days="7").split('aria-label="By how long sellers have been here"')[1].split("</table>")[0]
    assert '<a class="aisle-link" href="?days=7&amp;cohort=longer">A year or more</a></th><td>60</td>' in table
    assert "75.0%" in table and "<td>7</td>" in table and "<td>0</td>" in table
    narrowed = page(client, cohort="longer")
    assert "Only sellers here for a year or more." in narrowed and "75.0%" in narrowed
    assert narrowed.count("Of all products in this period, not only these.") == 2
    mug = Category.objects.order_by("slug")[0]
    both = page(client, cohort="longer", category=mug.slug)
    assert "figures are kept by one at a time" in both and f"Only {mug.name}" in both


def test_what_was_counted_before_sellers_were_told_apart_is_said_to_be(scientist: User, busy: None) -> None:
    for row in HealthSummary.objects.filter(volume__has_key="cohorts"):
        del row.volume["cohorts"], row.answers["cohorts"]
        row.save(update_fields=["volume", "answers"])
    assert "360 predictions are from before cohorts were counted" in page(logged_in_client(scientist))
    start = TODAY - 10 * DAY
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=io.StringIO())
    assert "before cohorts were counted" not in page(logged_in_client(scientist))


def test_inputs_unlike_anything_known_are_shown_and_lead_to_the_predictions(scientist: User, busy: None) -> None:
    client = logged_in_client(scientist)
    assert "no detector for these versions yet" in page(client)
    start = TODAY - 10 * DAY
    DistributionDetector.objects.update_or_create(version_id=live_pair()[0], defaults={"arrays": b""})
    DistributionDetector.objects.update(created_at=start)
    strange = [pk for number, pk in enumerate(Prediction.objects.order_by("finished_at").values_list("pk", flat=True))
               if number % 6 == 0]  # fmt: skip
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=io.StringIO())
    quiet = page(client)
    assert ">0.0%<" in quiet.split("Unusual inputs")[1].split("</dd>")[0]
    assert "The estimate is then too high" not in quiet
    Prediction.objects.filter(pk__in=strange).update(unusual="text")
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=io.StringIO())
    found = page(client)
    assert "The estimate is then too high: it can't see inputs of kinds that the models never learned." in found
    figure = found.split("Unusual inputs")[1].split("</dd>")[0]
    assert "16.7%" in figure and "n 360" in figure
    address = re.search('href="([^"]+)"', figure)
    assert address
    behind = client.get(unescape(address[1]))
    assert behind.status_code == 200
    assert {row.unusual for row in behind.context["cl"].result_list} == {"text"}
    assert behind.context["cl"].queryset.count() == 60


def test_the_confusions_say_what_they_count(scientist: User, busy: None) -> None:
    found = page(logged_in_client(scientist))
    assert "All reviewed products are counted here" in found.split("Confusions on reviewed products")[1]
    assert (
        "count only the random share of the review"
        in found.split('aria-label="Each model"')[1].split("Calibration on")[0]
    )


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"since": "yesterday"}, "Enter a valid date."),
        ({"since": "2026-11-20", "until": "2026-11-10"}, "This day is before the first one."),
        ({"since": "2020-01-01"}, "At most 92 days can be shown at once."),
        ({"until": "2026-11-20"}, "Choose the first day as well."),
        ({"pair": "1-2-3"}, "Select a valid choice."),
        ({"category": "\x00"}, "Select a valid choice."),
        ({"days": "9" * 40}, "Products finished from"),
        ({"since": "2020-01-01", "until": "2020-01-02"}, "Choose another period."),
        ({"since": "2999-12-31", "until": "2999-12-31"}, "Products finished from"),
        ({"since": "9999-12-31", "until": "9999-12-31"}, "too far ahead"),
        ({"since": "0001-01-01", "until": "0001-01-01"}, "There is nothing from before the year 2000."),
        ({"true": "\x00", "given": "\x00"}, "Products finished from"),
    ],
)
def test_a_wrong_wish_is_answered_with_words(scientist: User, seller: User, asked: dict[str, str], words: str) -> None:
    store_predictions(seller, TODAY - DAY, 3)
    call_command("summarise", since=f"{TODAY - DAY:%Y-%m-%d}", stdout=io.StringIO())
    assert words in page(logged_in_client(scientist), **asked)


def test_only_those_who_may_read_reports_see_the_page(scientist: User, browser: Client) -> None:
    assert browser.get(reverse("model_health")).status_code == 302
    scientist.groups.clear()
    assert logged_in_client(scientist).get(reverse("model_health")).status_code == 403


def test_more_days_and_products_take_no_more_queries(scientist: User, seller: User, busy: None) -> None:
    client = logged_in_client(scientist)

    def queries(days: str) -> int:
        with CaptureQueriesContext(connection) as asked:
            page(client, days=days)
        assert not any("classifier_prediction" in query["sql"] and "COUNT" in query["sql"] for query in asked)
        return len(asked)

    assert queries("90") <= queries("7") <= 16


def test_a_clock_zone_of_the_server_changes_no_day(scientist: User, seller: User, settings: object) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"  # type: ignore[attr-defined]
    store_predictions(seller, datetime(2026, 11, 1, 23, tzinfo=UTC), 5)
    call_command("summarise", since="2026-11-01", stdout=io.StringIO())
    assert "The last counted day" in page(logged_in_client(scientist), since="2026-11-01", until="2026-11-10")
    whole = HealthSummary.objects.get(
        period="day", start=datetime(2026, 11, 1, tzinfo=UTC), text_version=live_pair()[0]
    )
    assert whole.volume["done"] == 5 and timedelta(0) == whole.start.utcoffset()
