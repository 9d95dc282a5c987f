import re
import uuid
from collections.abc import Callable

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from classifier.models import Category, EnsembleRule, Prediction
from classifier.tasks import classify_pending
from feedback.models import Feedback
from portal.models import Product, ProductPhoto, User
from tests.support.photos import photo_upload, product_photo

MakeProduct = Callable[..., Product]
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def no_waiting(settings: object) -> None:
    """No worker runs here: pages answer at once with the waiting state."""
    settings.RESULT_WAIT_SECONDS = 0  # type: ignore[attr-defined]


def text_of(response: object) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())  # type: ignore[attr-defined]


def submit(browser: Client, **fields: object) -> object:
    return browser.post(reverse("product_new"), fields)


def test_a_title_alone_is_enough(browser: Client, seller: User) -> None:
    response = submit(browser, title="Acoustic guitar")
    product = Product.objects.get(seller=seller)
    assert response.status_code == 302  # type: ignore[attr-defined]
    assert response.url == product.get_absolute_url()  # type: ignore[attr-defined]
    assert product.prediction.title == "Acoustic guitar"
    assert product.prediction.state == Prediction.State.QUEUED


def test_a_photo_alone_is_enough(browser: Client, seller: User) -> None:
    submit(browser, photo=photo_upload())
    product = Product.objects.get(seller=seller)
    assert product.prediction.photo_small == product.photo_small != ""
    assert ProductPhoto.objects.drafts().count() == 0


def test_nothing_at_all_is_refused_with_what_to_do(browser: Client) -> None:
    response = submit(browser, title="  ", description="")
    assert response.status_code == 422  # type: ignore[attr-defined]
    assert "Add a photo or a title" in text_of(response)
    assert not Product.objects.exists()


def test_a_wrong_field_loses_neither_the_text_nor_the_photo(browser: Client, seller: User) -> None:
    response = submit(browser, title="x" * 10_000, description="Kept words", sku="K-1", photo=photo_upload())
    page = response.content.decode()  # type: ignore[attr-defined]
    assert "This title has 10,000 characters" in page
    assert "Kept words" in page and "K-1" in page and "x" * 10_000 in page
    draft = ProductPhoto.objects.get(seller=seller)
    assert str(draft.pk) in page
    assert browser.get(reverse("photo", args=[draft.pk, "large"])).status_code == 200
    submit(browser, title="Mug", photos=str(draft.pk))
    assert Product.objects.get(seller=seller).photo_large == draft.large


def test_a_refused_photo_keeps_the_text(browser: Client) -> None:
    response = submit(browser, title="My precious mug", photo=photo_upload(b"GIF89a" + b"\0" * 200, "mug.gif"))
    assert "JPEG, PNG, WebP or HEIC" in text_of(response)
    assert "My precious mug" in response.content.decode()  # type: ignore[attr-defined]


def test_a_photo_over_the_limit_keeps_the_text(browser: Client) -> None:
    response = submit(browser, title="My precious mug", photo=photo_upload(b"\xff\xd8\xff" + b"x" * 30_500_000))
    assert "This photo is 31 MB; the limit is 12 MB." in text_of(response)
    assert "My precious mug" in response.content.decode()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "title",
    ["🎸🎺", "كوب أحمر للقهوة", "a\x00b\x07c", "<script>alert(1)</script> <x-mug onload=alert(1)>", "%s%n{{7*7}}"],
)
def test_odd_titles_come_through_unharmed(browser: Client, seller: User, title: str) -> None:
    submit(browser, title=title)
    product = Product.objects.get(seller=seller)
    page = browser.get(product.get_absolute_url())
    assert page.status_code == 200
    assert "alert(1)</script>" not in page.content.decode() and "<x-mug" not in page.content.decode()
    classify_pending()
    product.prediction.refresh_from_db()
    assert product.prediction.state == Prediction.State.DONE


def test_the_result_names_five_categories_and_how_sure(
    browser: Client, seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller)
    words = text_of(browser.get(product.get_absolute_url()))
    best = product.prediction.top5[0]
    assert f"Most likely {best['category']}".replace("&", "&amp;") in words
    for row in product.prediction.top5:
        assert row["category"].replace("&", "&amp;") in words
    assert "Which category fits?" in words


def test_a_waiting_result_polls_and_a_finished_one_does_not(
    browser: Client, seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller, answered=False)
    fragment = reverse("product_result", args=[product.pk])
    assert "hx-trigger" in browser.get(fragment, headers=HTMX).content.decode()
    classify_pending()
    assert "every " not in browser.get(fragment, headers=HTMX).content.decode()


def test_a_failed_prediction_says_why_and_can_be_tried_again(
    browser: Client, seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller, answered=False)
    Prediction.objects.filter(pk=product.prediction_id).update(state="failed", error="The reason in words.")
    words = text_of(browser.get(product.get_absolute_url()))
    assert "The reason in words." in words and "Try again" in words
    browser.post(reverse("product_retry", args=[product.pk]))
    product.refresh_from_db()
    assert product.prediction.state == Prediction.State.QUEUED


def answer(browser: Client, product: Product, **fields: str) -> object:
    return browser.post(reverse("product_answer", args=[product.pk]), fields)


def test_one_tap_shelves_the_product_and_can_be_changed(
    browser: Client, seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller)
    second = product.prediction.top5[1]["slug"]
    answer(browser, product, category=second)
    feedback = Feedback.objects.get(prediction=product.prediction)
    assert (feedback.verdict, feedback.rank, feedback.category.slug) == ("top5", 2, second)  # type: ignore[union-attr]
    product.refresh_from_db()
    assert product.category and product.category.slug == second
    assert product.state == Product.State.CATEGORISED

    far = Category.objects.exclude(slug__in=[row["slug"] for row in product.prediction.top5]).first()
    assert far
    answer(browser, product, category=far.slug)
    feedback.refresh_from_db()
    assert (feedback.verdict, feedback.rank, feedback.category) == ("other", None, far)
    assert len(feedback.earlier) == 1


def test_none_of_these_fits_keeps_the_wish(browser: Client, seller: User, make_product: MakeProduct) -> None:
    product = make_product(seller)
    answer(browser, product, category="", wish="Second-hand books")
    feedback = Feedback.objects.get(prediction=product.prediction)
    assert (feedback.verdict, feedback.category, feedback.wish) == ("none", None, "Second-hand books")
    product.refresh_from_db()
    assert product.state == Product.State.NO_CATEGORY


def test_an_unknown_category_or_an_early_answer_changes_nothing(
    browser: Client, seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller)
    answer(browser, product, category="no-such-shelf")
    waiting = make_product(seller, answered=False)
    answer(browser, waiting, category="beauty")
    assert not Feedback.objects.exists()


def test_an_edit_of_text_or_photo_gets_new_suggestions_and_one_of_the_sku_none(
    browser: Client, seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller, photo=True)
    answer(browser, product, category=product.prediction.top5[0]["slug"])
    page = reverse("product_edit", args=[product.pk])
    browser.post(page, {"title": product.title, "description": "", "sku": "NEW-SKU"})
    unchanged = Product.objects.get(pk=product.pk)
    assert unchanged.sku == "NEW-SKU" and unchanged.prediction == product.prediction and unchanged.category
    browser.post(page, {"title": "Red mug", "description": "", "sku": "", "remove_photos": product.photos.get().pk})
    changed = Product.objects.get(pk=product.pk)
    assert changed.prediction != product.prediction and not changed.photo_large
    assert Feedback.objects.filter(prediction=product.prediction).exists()


def test_the_list_searches_filters_sorts_and_survives_nonsense(
    browser: Client, seller: User, make_product: MakeProduct
) -> None:
    guitar, mug = make_product(seller, title="Guitar, red"), make_product(seller, title="A red mug", answered=False)
    page = reverse("products")

    def shown(**query: str) -> list[Product]:
        return list(browser.get(page, query).context["page"])

    assert shown() == [mug, guitar]
    assert shown(q="red guitar") == [guitar]
    assert shown(q="%_'") == []
    assert shown(state="waiting") == [mug]
    assert shown(state="open") == [guitar]
    assert shown(sort="oldest") == [guitar, mug]
    assert shown(sort="title") == [mug, guitar]
    answer(browser, guitar, category="beauty")
    assert shown(category="beauty") == [guitar]
    for nonsense in ("-1", "x", "99999", "\x00"):
        assert browser.get(page, dict.fromkeys(("page", "state", "category", "sort", "q"), nonsense)).status_code == 200


def test_the_list_takes_as_many_queries_for_thirty_products_as_for_two(
    browser: Client, seller: User, make_product: MakeProduct, django_assert_max_num_queries: Callable[..., object]
) -> None:
    for number in range(30):
        make_product(seller, title=f"Guitar {number}", answered=False)
    classify_pending()
    with django_assert_max_num_queries(9):  # type: ignore[attr-defined]
        browser.get(reverse("products"))


def test_a_photo_is_served_to_its_owner_only(
    browser: Client, client: Client, seller: User, other_seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller, photo=True, answered=False)
    page = reverse("product_photo", args=[product.pk, "large"])
    answer = browser.get(page)
    assert answer["Content-Type"] == "image/jpeg" and "private" in answer["Cache-Control"]
    stranger = Client()
    assert stranger.get(page).status_code == 302
    stranger.force_login(other_seller)
    assert stranger.get(page).status_code == 404
    assert stranger.get(f"/media/{product.photo_large}").status_code == 404
    default_storage.delete(product.photo_large)
    assert browser.get(page).status_code == 404


def test_uploading_too_fast_is_slowed_down(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from portal.api.throttles import UploadThrottle

    monkeypatch.setattr(UploadThrottle, "rate", "2/minute", raising=False)
    responses = [submit(browser, title="Mug") for _ in range(3)]
    assert [r.status_code for r in responses] == [302, 302, 429]  # type: ignore[attr-defined]
    assert int(responses[-1]["Retry-After"]) > 0  # type: ignore[index]


def test_a_strict_policy_forbids_foreign_and_inline_code(browser: Client) -> None:
    policy = browser.get(reverse("product_new"))["Content-Security-Policy"]
    assert "script-src 'self'" in policy and "default-src 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy


OF_A_PRODUCT = ["product", "product_edit"]
FOR_STRANGERS = ["account_login", "account_signup"]


@pytest.mark.parametrize("name", ["home", "products", "product_new", "trash", "account", *OF_A_PRODUCT, *FOR_STRANGERS])
def test_no_page_carries_inline_scripts_styles_or_foreign_addresses(
    browser: Client, seller: User, make_product: MakeProduct, name: str
) -> None:
    key = make_product(seller, photo=True).pk if name in OF_A_PRODUCT else None
    if name in FOR_STRANGERS:
        browser.logout()
    response = browser.get(reverse(name, args=[key] if key else []), follow=name == "home")
    assert response.status_code == 200
    page = response.content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"\sstyle=|\son[a-z]+=\"", page)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)


def test_strangers_are_sent_to_log_in(client: Client) -> None:
    for name in ("products", "product_new", "account"):
        assert client.get(reverse(name)).url.startswith(reverse("account_login"))  # type: ignore[attr-defined]
    assert client.get(reverse("product", args=[uuid.uuid4()])).status_code == 302


def test_stale_drafts_are_deleted_with_their_files(browser: Client, seller: User) -> None:
    from datetime import timedelta

    from portal.products.services import delete_stale_drafts

    submit(browser, title="x" * 1000, photo=photo_upload(product_photo()))
    draft = ProductPhoto.objects.get()
    assert delete_stale_drafts() == 0
    ProductPhoto.objects.update(created_at=draft.created_at - timedelta(days=2))
    assert delete_stale_drafts() == 1
    assert not default_storage.exists(draft.large) and not default_storage.exists(draft.small)


def test_what_a_failing_storage_left_of_a_photo_is_deleted_once_it_answers(
    browser: Client, seller: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    from portal.products.services import create_photo_draft, delete_stale_drafts

    def fail_for(word: str, method: str) -> None:
        real = getattr(default_storage, method)

        def failing(name: str, *rest: object) -> object:
            if word in name:
                raise OSError("the storage is full")
            return real(name, *rest)

        monkeypatch.setattr(default_storage, method, failing)

    fail_for("-small", "save")
    page = submit(browser, title="Mug", photo=photo_upload(product_photo())).content.decode()  # type: ignore[attr-defined]
    assert "store photos at the moment" in page and "Mug" in page
    left = ProductPhoto.objects.get()
    assert default_storage.exists(left.large) and not default_storage.exists(left.small)

    monkeypatch.undo()
    create_photo_draft(seller=seller, upload=photo_upload())
    ProductPhoto.objects.update(created_at=left.created_at - timedelta(days=2))
    fail_for(left.large, "delete")
    assert delete_stale_drafts() == 1, "one that is refused keeps none of the others"
    assert ProductPhoto.objects.get() == left
    monkeypatch.undo()
    assert delete_stale_drafts() == 1
    assert not default_storage.exists(left.large) and not ProductPhoto.objects.exists()


def test_uncalibrated_probabilities_are_not_shown(
    browser: Client, api: APIClient, seller: User, make_product: MakeProduct
) -> None:
    EnsembleRule.objects.all().delete()
    product = make_product(seller, photo=True)
    page = browser.get(product.get_absolute_url()).content.decode()
    question = page[page.index('class="question"') : page.index("data-picker")]
    assert "%" not in question and "<progress" not in question
    for words in ("Very likely", "Not sure"):
        assert words not in page
    assert "Please check" in page
    listed = browser.get(reverse("products")).content.decode()
    assert product.prediction.best["category"].replace("&", "&amp;") in listed
    assert "%" not in listed[listed.index('class="guess"') :].split("</td>")[0]
    answer = api.get(f"/api/v1/predictions/{product.prediction_id}").json()
    assert (answer["confidence"], answer["calibrated"]) == (None, False)
    assert len(answer["top5"]) == 5
