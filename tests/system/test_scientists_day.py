"""Walk through a data scientist's day in a real browser, from the log-in with a second factor to a promotion."""

import io
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core.management import call_command
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect, sync_playwright

from classifier.models import Category, Deployment, ModelVersion
from classifier.registry import traffic, variants
from feedback.fraud_cases.detection import find_fraud
from feedback.models import Case, Feedback, Review
from feedback.monitoring import alerts, starter_baselines
from feedback.tasks import place_feedback
from portal.models import Product, User
from portal.products.services import record_answer
from tests.support import experiments, fraud_answers
from tests.support import traffic as recorded_traffic
from tests.support.accounts import PASSWORD
from tests.support.browser import CHROMIUM_FLAGS, assert_no_sideways_scroll, chromium_path
from tests.support.model_versions import live_version_name, register_variant
from tests.support.traffic import DAY, HOUR, SPANISH, TODAY

DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
TITLES = (
    "Yamaha acoustic guitar with case",
    "Red ceramic mug for coffee",
    "Running shoes for men",
    "Dog bed, washable",
)
Answer = TypeVar("Answer")


@pytest.fixture
def queue(committed_db: None, seller: User, make_product: Callable[..., Product]) -> list[str]:
    """Store predicted products that the seller answered; return their titles in the review queue's order."""
    for title, category in zip(TITLES, Category.objects.all(), strict=False):
        product = make_product(seller, title=title, photo=True)
        record_answer(prediction=product.prediction, category=category)
    place_feedback()
    return [row.prediction.title for row in Feedback.objects.unreviewed().in_queue_order()]


@pytest.fixture
def past(queue: list[str], seller: User) -> None:
    """Store ten summarised days with reviewed answers, the last of them in Spanish and reported."""
    start = TODAY - 10 * DAY
    for number in range(10):
        words = SPANISH if number == 9 else "the new mug for you"
        rows = recorded_traffic.store_predictions(seller, start + number * DAY, 60, within=3 * HOUR, words=words)
        for place, row in enumerate(rows[:20]):
            recorded_traffic.store_answer(row, right=place % 4 > 0)
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=io.StringIO())
    assert starter_baselines.create_missing_baselines(now=TODAY + HOUR)
    call_command("summarise", since=f"{TODAY - DAY:%Y-%m-%d}", stdout=io.StringIO())
    assert any(report.breached for report in alerts.write_reports(now=TODAY + HOUR))


@pytest.fixture
def case(past: None) -> Case:
    """Open a fraud case of a seller who answers with one category for products of every kind."""
    before = timezone.now() - timedelta(hours=1)
    fraud_answers.store_answers(fraud_answers.create_sellers(14), until=before, review="accepted")
    fraud_answers.store_answers(
        fraud_answers.create_sellers(1, "liar"), lies=0.3, until=before, seed=2, review="accepted"
    )
    [found] = find_fraud().opened
    return Case.objects.select_related("seller").get(pk=found.pk)


@pytest.fixture
def candidate(case: Case, seller: User, tmp_path: Path) -> ModelVersion:
    """Start an experiment with a version whose suggestions are accepted more often than the champion's."""
    old, candidate = (
        ModelVersion.objects.get(name=live_version_name()),
        register_variant(tmp_path / "candidate", "A new one."),
    )
    variants.start_test(candidate, weight=20)
    for version, first, others in ((old, 60, 60), (candidate, 40, 5)):
        experiments.store_answered_predictions(seller, version, rank=1, review="accepted", count=first)
        experiments.store_answered_predictions(seller, version, rank=None, review="accepted", count=others)
    return candidate


@pytest.fixture
def page(address: str, scientist: User, candidate: ModelVersion) -> Iterator[Page]:
    """Open a browser that is not logged in. It comes last: Django's fixtures refuse to work while its event loop runs.

    An error in its console, a refused script among them, fails the test.
    """
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        page = browser.new_context(base_url=address, viewport=DESK).new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        yield page
        browser.close()
    assert problems == []


def test_a_data_scientist_works_through_a_day(
    page: Page, queue: list[str], case: Case, candidate: ModelVersion, scientist: User, settings: Any
) -> None:
    settings.STAFF_MFA_REQUIRED = True
    settings.MFA_TOTP_TOLERANCE = 1  # so that a code may run out between its reading and its typing
    log_in_with_second_factor(page, scientist)
    read_health(page)
    work_through_queue(page, queue, scientist)
    judge_case(page, case, scientist)
    promote_candidate(page, candidate, scientist)


def log_in_with_second_factor(page: Page, scientist: User) -> None:
    """Set up a second factor at the first log-in; log in again with its code."""
    enter_password(page, scientist, "login")
    expect(page.get_by_text("Staff need two-factor log-in.")).to_be_visible()
    check_page(page, "is-it-you")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("heading", name="Set up the authenticator app")).to_be_visible()
    check_page(page, "second-factor")
    secret = page.locator("#authenticator_secret").input_value()
    page.get_by_label("Code from the app").fill(current_code(secret))
    page.get_by_role("button", name="Switch on").click()
    expect(page.get_by_text("Recovery codes").first).to_be_visible()
    check_page(page, "recovery-codes")
    assert ask_database(lambda: set(Authenticator.objects.filter(user=scientist).values_list("type", flat=True))) == {
        "totp", "recovery_codes",
    }  # fmt: skip

    page.get_by_role("button", name="Log out").click()
    enter_password(page, scientist)
    expect(page.get_by_role("heading", name="Enter your code")).to_be_visible()
    check_page(page, "code")
    page.get_by_role("textbox").fill(current_code(secret))
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile(f"{reverse('admin:index')}$"))
    check_page(page, "admin")


def read_health(page: Page) -> None:
    """Find figures with intervals, charts, and the day that drifted."""
    follow_link(page, "Health")
    figures = page.locator(".aisle-figures-key")
    for name in ("Predictions", "Failed", "Accepted: the first suggestion", "Accuracy, reviewed", "Drift"):
        expect(figures.get_by_text(name, exact=True)).to_be_visible()
    expect(figures.locator("dd", has_text=re.compile(r"%.+–.+n "))).not_to_have_count(0)
    for chart in page.locator(".aisle-report-pair svg").all():
        expect(chart).to_be_visible()
    assert page.locator(".aisle-report-pair svg").count() >= 3
    expect(page.get_by_role("heading", name="Changed most in language")).to_be_visible()
    check_page(page, "health")


def work_through_queue(page: Page, order: list[str], scientist: User) -> None:
    """Accept, reject, undo and correct by the keyboard alone."""
    follow_link(page, "Review queue")
    heading = page.locator(".aisle-review h2")
    expect(heading).to_have_text(order[0])
    check_page(page, "review")
    page.wait_for_function("document.querySelector('.aisle-review-photo img').naturalWidth > 0")
    page.keyboard.press("?")
    expect(page.get_by_text("Skip; undo the last decision")).to_be_visible()

    page.keyboard.press("a")
    expect(heading).to_have_text(order[1])
    assert (answer_to(order[0]).review, answer_to(order[0]).reviewed_by) == ("accepted", scientist)

    page.keyboard.press("r")
    expect(heading).to_have_text(order[2])
    assert answer_to(order[1]).review == "rejected"

    page.keyboard.press("u")
    expect(heading).to_have_text(order[1])
    assert answer_to(order[1]).review == "open"

    search = page.get_by_label("Correct to")
    page.keyboard.press("c")
    expect(search).to_be_focused()
    page.keyboard.type("musical instruments")
    page.keyboard.press("Enter")
    expect(heading).to_have_text(order[2])
    corrected = answer_to(order[1])
    assert (corrected.review, corrected.correction and corrected.correction.slug) == (
        "corrected",
        "musical-instruments",
    )
    decided = ask_database(lambda: list(Review.objects.filter(reviewer=scientist).order_by("pk")))
    assert [(review.verdict, review.undone_at is None) for review in decided] == [
        ("accept", True), ("reject", False), ("correct", True),
    ]  # fmt: skip


def judge_case(page: Page, case: Case, scientist: User) -> None:
    """Confirm a case, which needs a reason that its history then shows."""
    follow_link(page, "Fraud cases")
    check_page(page, "cases")
    page.get_by_role("link", name=case.seller.email).click()
    expect(page.get_by_role("heading", name="Your verdict")).to_be_visible()
    check_page(page, "case")
    confirm = page.get_by_role("button", name="Confirm: on purpose")
    confirm.click()
    expect(page.get_by_label("Reason (for colleagues)")).to_be_focused()  # the browser asks for it
    assert ask_database(lambda: Case.objects.get().state) == "open"
    page.get_by_label("Reason (for colleagues)").fill("Twelve of forty, all into one category.")
    confirm.click()
    expect(page.get_by_text("Twelve of forty, all into one category.").first).to_be_visible()
    check_page(page, "case-confirmed")
    decided = ask_database(lambda: Case.objects.select_related("decided_by").get())
    assert (decided.state, decided.decided_by) == ("confirmed", scientist)
    assert decided.reason == "Twelve of forty, all into one category."
    assert ask_database(lambda: list(decided.events.values_list("action", flat=True))) == ["opened", "confirmed"]


def promote_candidate(page: Page, candidate: ModelVersion, scientist: User) -> None:
    """Give the candidate all traffic, after confirming."""
    follow_link(page, "Experiments")
    expect(page.get_by_text("Live, 20%").first).to_be_visible()
    expect(page.get_by_text("over 99%").first).to_be_visible()
    check_page(page, "experiment")
    page.get_by_role("link", name=f"Promote {candidate.name}").click()
    expect(page.get_by_role("heading", name=re.compile("^Promote")).first).to_be_visible()
    check_page(page, "promote")
    assert ask_database(lambda: len(traffic.live_variants("text"))) == 2  # asking changed nothing
    page.get_by_label("Note for the list of deployments").fill("Sellers like it more.")
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_text("has all traffic now")).to_be_visible()
    check_page(page, "promoted")
    assert ask_database(lambda: [variant.version for variant in traffic.live_variants("text")]) == [candidate]
    last = ask_database(lambda: Deployment.objects.select_related("deployed_by").latest("pk"))
    assert (last.kind, last.version_id, last.deployed_by) == ("promotion", candidate.pk, scientist)
    assert (last.note, last.shares) == ("Sellers like it more.", {candidate.name: 100})


def enter_password(page: Page, who: User, shot: str = "") -> None:
    page.goto(reverse("admin:index"))
    page.get_by_label("E-mail").fill(who.email)
    page.get_by_label("Password").fill(PASSWORD)
    if shot:
        check_page(page, shot, reload=False)
    page.get_by_role("button", name="Log in").click()


def current_code(secret: str) -> str:
    """Return what an authenticator app shows now."""
    counters = list(yield_hotp_counters_from_time())
    return format_hotp_value(hotp_value(secret, counters[len(counters) // 2]))


def follow_link(page: Page, name: str) -> None:
    """Follow a link of the side bar."""
    page.get_by_role("link", name=re.compile(f"{name}$")).first.click()
    expect(page.get_by_role("heading", name=re.compile(name)).first).to_be_visible()


def ask_database(question: Callable[[], Answer]) -> Answer:
    """Query the database in a thread of its own: Django refuses to in this one, where the browser's event loop runs."""

    def ask() -> Answer:
        try:
            return question()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ask).result()


def answer_to(title: str) -> Feedback:
    rows = Feedback.objects.select_related("correction", "reviewed_by")
    return ask_database(lambda: rows.get(prediction__title=title))


def check_page(page: Page, name: str, *, reload: bool = True) -> None:
    """Check that the page fits a wide screen and a phone; keep pictures in the folder that SCREENSHOTS names."""
    for size in (PHONE, DESK):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        if reload:
            page.reload()
        assert_no_sideways_scroll(page)
        if folder := os.environ.get("SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.wait_for_load_state("networkidle")  # photos come late
            page.screenshot(path=Path(folder) / f"{name}-{size['width']}.png", full_page=True)
