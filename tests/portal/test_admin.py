import re
import uuid
from collections.abc import Callable

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from classifier.models import Category, ModelVersion, Prediction
from classifier.tasks import archive_pending, classify_pending
from portal.models import Product, User
from portal.products.services import record_answer
from tests.support.accounts import logged_in_client

MakeProduct = Callable[..., Product]
SEEN_BY_SCIENTISTS = [
    "classifier_category", "classifier_modelversion", "classifier_ensemblerule", "classifier_variant",
    "classifier_prediction", "feedback_feedback", "portal_product",
]  # fmt: skip


@pytest.fixture
def answered(seller: User, make_product: MakeProduct) -> Product:
    product = make_product(seller, photo=True)
    record_answer(prediction=product.prediction, category=Category.objects.get(slug="beauty"))
    archive_pending()
    return product


@pytest.mark.parametrize("model", [model._meta.label_lower.replace(".", "_") for model in admin.site._registry])
def test_every_list_opens_for_administrators(administrator: User, answered: Product, model: str) -> None:
    if model != "django_celery_beat_solarschedule":
        assert logged_in_client(administrator).get(reverse(f"admin:{model}_changelist")).status_code == 200


@pytest.mark.parametrize("model", SEEN_BY_SCIENTISTS)
def test_data_scientists_can_read_lists_but_add_nothing(scientist: User, answered: Product, model: str) -> None:
    page = logged_in_client(scientist)
    assert page.get(reverse(f"admin:{model}_changelist")).status_code == 200
    assert page.get(reverse(f"admin:{model}_add")).status_code == 403


def test_the_admin_has_aisles_style_and_links(administrator: User) -> None:
    page = logged_in_client(administrator).get(reverse("admin:index")).content.decode()
    assert re.search(r"aisle/admin\.\w*\.?css", page)
    for link in ("review", "model_health", "experiments", "admin:django_celery_beat_periodictask_changelist"):
        assert reverse(link) in page


def test_data_scientists_cannot_see_users(scientist: User) -> None:
    assert logged_in_client(scientist).get(reverse("admin:portal_user_changelist")).status_code == 403


def test_a_prediction_page_shows_photo_probabilities_and_archive(
    administrator: User, answered: Product, django_assert_max_num_queries: Callable[..., object]
) -> None:
    prediction = answered.prediction
    client = logged_in_client(administrator)
    page = client.get(reverse("admin:classifier_prediction_change", args=[prediction.pk])).content.decode()
    for row in prediction.top5:
        assert row["category"].replace("&", "&amp;") in page
    assert "starter" in page
    for name in ("input.json", "image.jpg", "text.json", "image.json", "ensemble.json"):
        address = reverse("admin:classifier_prediction_archived", args=[prediction.pk, name])
        assert address in page
        assert client.get(address).status_code == 200
    for size in ("small", "large"):
        assert client.get(reverse("admin:classifier_prediction_photo", args=[prediction.pk, size])).status_code == 200
    assert (
        client.get(reverse("admin:classifier_prediction_archived", args=[prediction.pk, "x.json"])).status_code == 404
    )


def test_history_cannot_be_changed_even_by_administrators(administrator: User, answered: Product) -> None:
    client = logged_in_client(administrator)
    for name, key in (
        ("classifier_prediction", answered.prediction_id),
        ("feedback_feedback", answered.prediction.feedback.pk),
        ("classifier_modelversion", ModelVersion.objects.first().pk),  # type: ignore[union-attr]
    ):
        assert client.post(reverse(f"admin:{name}_change", args=[key]), {"state": "failed"}).status_code == 403
        assert client.post(reverse(f"admin:{name}_delete", args=[key]), {"post": "yes"}).status_code == 403
    assert Prediction.objects.get().state == Prediction.State.DONE


def test_a_category_is_added_in_the_admin_and_keeps_its_slug(administrator: User, db: None) -> None:
    client = logged_in_client(administrator)
    aliases = {
        "aliases-TOTAL_FORMS": "1", "aliases-INITIAL_FORMS": "0", "aliases-0-name": "Livres",
        "search_terms-TOTAL_FORMS": "0", "search_terms-INITIAL_FORMS": "0",
    }  # fmt: skip
    client.post(
        reverse("admin:classifier_category_add"), {"name": "Books", "slug": "books", "is_active": "on", **aliases}
    )
    books = Category.objects.get(slug="books")
    assert Category.objects.named("livres") == books
    client.post(
        reverse("admin:classifier_category_change", args=[books.pk]),
        {"name": "Books & Magazines", "slug": "changed", "is_active": "on", **aliases, "aliases-TOTAL_FORMS": "0"},
    )
    books.refresh_from_db()
    assert (books.name, books.slug) == ("Books & Magazines", "books")


def test_search_terms_are_edited_page_by_page_and_each_stands_once(administrator: User, db: None) -> None:
    client, sports = logged_in_client(administrator), Category.objects.get(slug="sports-outdoors")
    page = reverse("admin:classifier_category_change", args=[sports.pk])
    forms = client.get(page).context["inline_admin_formsets"][1].formset
    assert (len(forms.forms), forms.paginator.count) == (50, sports.search_terms.count())
    before = sports.search_terms.count()
    values = {
        "name": sports.name, "is_active": "on", "aliases-TOTAL_FORMS": "0", "aliases-INITIAL_FORMS": "0",
        "search_terms-TOTAL_FORMS": "51", "search_terms-INITIAL_FORMS": "50",
    }  # fmt: skip
    for number, form in enumerate(forms.forms):
        values |= {f"search_terms-{number}-id": form.instance.pk, f"search_terms-{number}-term": form.instance.term}
    twice = client.post(page, values | {"search_terms-50-term": "bike", "search_terms-50-category": sports.pk})
    assert (twice.status_code, sports.search_terms.count()) == (200, before)
    changed = {"search_terms-50-term": "velocipede", "search_terms-0-DELETE": "on"}
    assert client.post(page, values | changed).status_code == 302
    assert sports.search_terms.filter(term="velocipede").exists() and sports.search_terms.count() == before


def test_lists_take_few_queries_however_long_they_are(
    administrator: User, seller: User, make_product: MakeProduct, django_assert_max_num_queries: Callable[..., object]
) -> None:
    for number in range(30):
        make_product(seller, title=f"Guitar {number}", answered=False)
    classify_pending()
    client = logged_in_client(administrator)
    for name in ("classifier_prediction", "portal_product", "feedback_feedback"):
        with django_assert_max_num_queries(14):  # type: ignore[attr-defined]
            client.get(reverse(f"admin:{name}_changelist"))


@pytest.mark.parametrize("name", ["classifier_prediction", "feedback_feedback", "portal_product"])
def test_search_finds_whole_values_and_uses_an_index(
    administrator: User, other_seller: User, answered: Product, make_product: MakeProduct, name: str
) -> None:
    make_product(other_seller, answered=False)
    Product.objects.filter(pk=answered.pk).update(sku="G-1")
    client, page = logged_in_client(administrator), reverse(f"admin:{name}_changelist")

    def found(words: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            rows = list(client.get(page, {"q": words}).context["cl"].result_list)
        assert not [query for query in queries if "LIKE" in query["sql"] or "UPPER(" in query["sql"]]
        return len(rows)

    key = answered.pk if name == "portal_product" else answered.prediction_id
    assert found(str(key)) == found(f" {str(key).upper()} ") == found("Seller@shop.example") == 1
    assert found("G-1") == (1 if name == "portal_product" else 0)
    for nothing in ("nonsense", "%", "nobody@shop.example", "@", "Yamaha", str(uuid.uuid4())):
        assert found(nothing) == 0


def test_search_says_what_can_be_searched_for(administrator: User) -> None:
    client = logged_in_client(administrator)
    for name, word in {
        "classifier_prediction": "address",
        "feedback_feedback": "prediction",
        "portal_product": "SKU",
    }.items():
        assert word in str(client.get(reverse(f"admin:{name}_changelist")).context["cl"].search_help_text)
