"""Request every address of the site and the API: a seller's objects don't exist for others."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse
from knox.models import AuthToken
from rest_framework.test import APIClient

from classifier.models import Prediction
from feedback.models import Feedback
from portal.models import Product, ProductPhoto, User
from portal.privacy.exporting import build_due
from portal.privacy.models import Export
from portal.privacy.services import request_export
from portal.products.services import create_photo_draft, trash_products
from tests.support.accounts import confirm_password
from tests.support.photos import photo_upload
from tests.support.url_patterns import all_url_patterns

MakeProduct = Callable[..., Product]
METHODS = ("get", "post", "put", "patch", "delete")
NOT_FOR_SELLERS = ("admin/",)
OTHERS_OWN_RULES = ("accounts/", "api/v1/<anything:rest>")  # allauth's keys are signed or belong to the session


def with_objects() -> list[str]:
    skipped = (*NOT_FOR_SELLERS, *OTHERS_OWN_RULES)
    return sorted(
        {address for address, entry in all_url_patterns() if "<" in address and not address.startswith(skipped)}
    )


def test_every_address_with_an_object_is_requested() -> None:
    """A new address appears here and so in the requests below; `fill` fails for a kind of id that it doesn't know."""
    assert len(with_objects()) >= 11


@pytest.mark.parametrize("address", with_objects())
@pytest.mark.parametrize("method", METHODS)
def test_another_sellers_objects_are_not_found(
    address: str, method: str, seller: User, other_seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller, photo=True, answered=False)
    draft = create_photo_draft(seller=seller, upload=photo_upload())
    token, _secret = AuthToken.objects.create(user=seller)
    path = "/" + fill(address, product, draft, token)

    stranger, owner = Client(), Client()
    stranger.force_login(other_seller)
    owner.force_login(seller)
    confirm_password(stranger)
    confirm_password(owner)
    before = rows()
    refused = getattr(stranger, method)(path, {"category": "beauty"} if method == "post" else None)
    assert rows() == before
    allowed = getattr(owner, method)(path, {"category": "beauty"} if method == "post" else None)
    if allowed.status_code == 405:
        assert refused.status_code == 405
        return
    assert refused.status_code == 404
    assert allowed.status_code != 404


def rows() -> list[object]:
    """Return every row that a seller has, with all its values."""
    return [list(model.objects.order_by("pk").values()) for model in (Product, Prediction, Feedback, ProductPhoto)] + [
        list(AuthToken.objects.order_by("pk").values())
    ]


def fill(address: str, product: Product, draft: ProductPhoto, token: AuthToken) -> str:
    if "tokens/" in address:
        return address.replace("<str:pk>", token.pk)
    if "photos/each/" in address:
        return address.replace("<uuid:pk>", str(draft.pk)).replace("<str:size>", "small")
    if "export/" in address:
        request_export(user=product.seller)
        build_due()
        return address.replace("<uuid:pk>", str(Export.objects.get(user=product.seller).pk))
    if "trash/" in address or "restore" in address:
        trash_products(products=Product.objects.filter(pk=product.pk))
    key = product.prediction_id if "predictions" in address else product.pk
    filled = address.replace("<uuid:pk>", str(key)).replace("<str:size>", "small")
    if "<uuid:photo>" in filled:
        filled = filled.replace("<uuid:photo>", str(product.photos.get().pk))
    assert "<" not in filled, f"teach the walk to fill {address}"
    return filled


def test_a_token_gives_access_to_its_owners_objects_alone(
    seller: User, other_seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller, answered=False)
    stranger = APIClient()
    stranger.credentials(HTTP_AUTHORIZATION=f"Bearer {AuthToken.objects.create(user=other_seller)[1]}")
    address = f"/api/v1/predictions/{product.prediction_id}"
    assert stranger.get(address).status_code == 404
    assert stranger.post(f"{address}/feedback", {"category": "beauty"}, format="json").status_code == 404
    assert stranger.get("/api/v1/products").json()["results"] == []


def test_another_sellers_photo_draft_is_refused(seller: User, other_seller: User) -> None:
    draft = create_photo_draft(seller=seller, upload=photo_upload())
    stranger = Client()
    stranger.force_login(other_seller)
    response = stranger.post(reverse("product_new"), {"title": "Mug", "photos": str(draft.pk)})
    assert response.status_code == 422
    assert ProductPhoto.objects.filter(pk=draft.pk).exists()


def test_sellers_cannot_open_the_admin(browser: Client) -> None:
    assert browser.get("/admin/").status_code in (302, 403)
    for address, entry in all_url_patterns():
        if address.startswith("admin/") and "<" not in address and entry.name:
            assert browser.get("/" + address).status_code in (302, 403, 404, 405), address
