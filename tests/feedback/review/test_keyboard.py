"""The review queue in a real browser, worked by its keys."""

from collections.abc import Callable
from pathlib import Path

from django.urls import reverse
from playwright.sync_api import Page, expect

from classifier.models import Category
from feedback.models import Feedback, Review
from feedback.services import record_feedback
from feedback.tasks import place_feedback
from portal.models import Product, User
from tests.support.accounts import logged_in_client
from tests.support.browser import browse, screenshot_folder

TITLES = [
    "Yamaha acoustic guitar with case",
    "Red ceramic mug for coffee",
    "Running shoes for men",
    "Dog bed, washable",
]


def test_a_reviewer_works_through_the_queue_without_a_mouse(
    address: str,
    seller: User,
    scientist: User,
    make_product: Callable[..., Product],
    tmp_path: Path,
) -> None:
    categories = list(Category.objects.all())
    for number, title in enumerate(TITLES):
        product = make_product(seller, title=title, photo=True)
        record_feedback(prediction=product.prediction, category=categories[number])
    place_feedback()
    order = [row.prediction.title for row in Feedback.objects.unreviewed().in_queue_order()]
    second = Feedback.objects.get(prediction__title=order[1])
    # Which product comes second is chance: the suggestion that was the seller's own answer would accept it.
    number, suggested = next(
        (place, row["slug"])
        for place, row in enumerate(second.prediction.top5, 1)
        if place > 1 and row["slug"] != second.category.slug
    )
    guess = categories[9]
    browse(
        logged_in_client(scientist),
        address,
        lambda page: work(page, order, str(number), guess.name, screenshot_folder(tmp_path)),
    )
    found = {row.prediction.title: row for row in Feedback.objects.all()}
    assert [found[title].review for title in order] == ["accepted", "corrected", "corrected", "open"]
    assert found[order[1]].correction == Category.objects.get(slug=suggested)
    assert found[order[2]].correction == guess
    assert Review.objects.count() == 4 and Review.objects.standing().count() == 3


def work(page: Page, order: list[str], number: str, name: str, folder: Path) -> None:
    page.goto(reverse("review"))
    heading = page.locator(".aisle-review h2")
    expect(heading).to_have_text(order[0])
    page.screenshot(path=folder / "review.png", full_page=True)
    page.keyboard.press("r")
    expect(heading).to_have_text(order[1])
    page.keyboard.press("u")
    expect(heading).to_have_text(order[0])
    page.keyboard.press("a")
    expect(heading).to_have_text(order[1])
    page.keyboard.press(number)
    expect(heading).to_have_text(order[2])
    page.keyboard.press("c")
    page.keyboard.type("Nothing like a")  # no key decides while somebody types
    expect(heading).to_have_text(order[2])
    page.keyboard.press("Control+A")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    expect(heading).to_have_text(order[3])
    page.keyboard.press("s")
    expect(page.get_by_text("Nothing waits for a review.")).to_be_visible()
    page.keyboard.press("u")
    expect(heading).to_have_text(order[3])
    page.keyboard.press("?")
    expect(page.get_by_text("Skip; undo the last decision")).to_be_visible()
    page.goto(f"{reverse('review')}?blind=1")
    page.screenshot(path=folder / "blind.png", full_page=True)
    page.set_viewport_size({"width": 360, "height": 780})
    page.goto(reverse("review"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.screenshot(path=folder / "review-phone.png", full_page=True)
