"""What a client sent in error is named and never ignored."""

from collections.abc import Callable

import pytest
from django.test import Client
from rest_framework.test import APIClient

from feedback.models import Feedback
from portal.models import Product, User
from tests.support.api import problem
from tests.support.photos import photo_upload

MakeProduct = Callable[..., Product]
PREDICTIONS = "/api/v1/predictions"
PRODUCTS = "/api/v1/products"
BOUNDARY = "form"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


def form(*parts: tuple[str, bytes]) -> bytes:
    """Return a multipart body whose parts have these header ends and these bytes, as curl would send them."""
    sections = [
        b"--form\r\nContent-Disposition: form-data; " + header.encode() + b"\r\n\r\n" + content + b"\r\n"
        for header, content in parts
    ]
    return b"".join(sections) + b"--form--\r\n"


@pytest.mark.parametrize("name", ["photo", "file", "image[]", "Image", "picture", "title2"])
def test_a_photo_under_another_name_is_rejected_with_the_right_name(api: APIClient, name: str) -> None:
    refused = api.post(PREDICTIONS, {"title": "Lamp", name: photo_upload()})
    assert (refused.status_code, problem(refused)["code"], problem(refused)["attr"]) == (400, "unknown_field", name)
    assert "“image”" in problem(refused)["detail"] and not Product.objects.exists()


@pytest.mark.parametrize(
    ("fields", "attr", "words"),
    [
        ({"title": "Lamp", "titel": "Lamp"}, "titel", "“title”"),
        ({"title": "Lamp", "price": "9"}, "price", "image, title, description, sku, bulk"),
        ({"name": "Lamp"}, "name", "Known are"),
        ({"title": "Lamp", "id": "7"}, "id", "Known are"),
        ({"title": "Lamp", "description_": "x"}, "description_", "“description”"),
    ],
)
def test_an_unknown_field_is_rejected_with_what_is_known(
    api: APIClient, fields: dict[str, str], attr: str, words: str
) -> None:
    refused = api.post(PREDICTIONS, fields)
    assert (refused.status_code, problem(refused)["code"], problem(refused)["attr"]) == (400, "unknown_field", attr)
    assert words in problem(refused)["detail"] and not Product.objects.exists()


@pytest.mark.parametrize(
    ("body", "code", "attr"),
    [
        ('{"category": ""}', "blank", "category"),
        ('{"category": null, "note": "x"}', "unknown_field", "note"),
        ('{"category": "beauty", "wish": "Astrolabes"}', "wish_with_category", "wish"),
        ('{"category": "beauty", "category": null}', "repeated_field", "category"),
        ('{"category": null, "wish": "Caf\ufffd"}', "not_utf8", "wish"),
        (b'{"category": null, "wish": "Caf\xe9"}', "not_utf8", None),
        ("{'category': null}", "parse_error", None),
        ('{"category": null, "wish": 7}', "invalid", "wish"),
        ('{"category": NaN}', "parse_error", None),
    ],
)
def test_an_answer_with_a_fault_is_rejected_and_the_fault_named(
    api: APIClient, seller: User, make_product: MakeProduct, body: str | bytes, code: str, attr: str | None
) -> None:
    address = f"{PREDICTIONS}/{make_product(seller, answered=False).prediction_id}/feedback"
    refused = api.post(address, body, content_type="application/json")
    assert (refused.status_code, problem(refused)["code"], problem(refused)["attr"]) == (400, code, attr)
    assert not Feedback.objects.exists()


@pytest.mark.parametrize(
    "text",
    ["\u200b\u200b", "\u2060", "\u00ad\u034f", "\u3164", "\u2800\u2800", "\ufe0f", "\ufeff \u00a0", "\U000e0041"],
)
def test_a_title_without_a_visible_character_is_no_title(api: APIClient, text: str) -> None:
    refused = api.post(PREDICTIONS, {"title": text})
    assert (refused.status_code, problem(refused)["code"]) == (400, "nothing_given")
    assert not Product.objects.exists()


def test_a_title_with_marks_and_joiners_between_letters_stays(api: APIClient, seller: User) -> None:
    title = "क्षत्रिय \U0001f469\u200d\U0001f373 e\u0301"
    assert api.post(PREDICTIONS, {"title": title}).status_code == 202
    assert Product.objects.get(seller=seller).title.startswith("क्षत्रिय")


@pytest.mark.parametrize(
    "parts",
    [
        [('name="title"\r\nContent-Type: text/plain; charset=iso-8859-1', b"Caf\xe9")],
        [('name="title"', "Кружка".encode("cp1251"))],
        [('name="title"', b"Mug"), ('name="description"', b"\xff\xfe")],
        [('name="title"', b"Mug"), ('name="sku"', "鍋".encode("shift_jis"))],
    ],
    ids=["latin-1", "cp1251", "utf-16", "shift-jis"],
)
@pytest.mark.parametrize("by_session", [False, True])
def test_bytes_that_are_not_utf8_are_rejected(
    api: APIClient, browser: Client, parts: list[tuple[str, bytes]], by_session: bool
) -> None:
    client = browser if by_session else api
    refused = client.generic("POST", PREDICTIONS, form(*parts), content_type=MULTIPART)
    assert (refused.status_code, problem(refused)["code"]) == (400, "not_utf8")
    assert not Product.objects.exists()


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; charset=utf-8"])
def test_a_form_without_a_boundary_says_who_sets_it(api: APIClient, content_type: str) -> None:
    refused = api.generic("POST", PREDICTIONS, form(('name="title"', b"Mug")), content_type=content_type)
    assert (refused.status_code, problem(refused)["code"]) == (400, "parse_error")
    assert "Don't set this header yourself" in problem(refused)["detail"]


def test_fields_that_are_sent_twice_or_empty_are_rejected(api: APIClient) -> None:
    twice = api.generic(
        "POST", PREDICTIONS, form(('name="title"', b"Mug"), ('name="title"', b"Cup")), content_type=MULTIPART
    )
    empty = api.post(PREDICTIONS, {"title": "Mug", "bulk": ""})
    assert [problem(twice)["code"], problem(empty)["attr"]] == ["repeated_field", "bulk"]


@pytest.mark.parametrize(
    ("query", "code", "attr"),
    [
        ("created_after=2026-11-29T10:00:00+01:00", "unescaped_plus", "created_after"),
        ("created_before=2026-11-29T10:00:00.123+0530", "unescaped_plus", "created_before"),
        ("created_before=2026-11-29T10:00+01", "unescaped_plus", "created_before"),
        ("created_after=yesterday", "invalid", "created_after"),
        ("created_since=2026-11-29", "unknown_parameter", "created_since"),
        ("statee=open", "unknown_parameter", "statee"),
        ("state=waiting&state=failed", "repeated_parameter", "state"),
        ("q=caf%E9", "not_utf8", "q"),
    ],
)
def test_a_filter_with_a_fault_is_rejected_and_the_fault_named(
    api: APIClient, query: str, code: str, attr: str
) -> None:
    refused = api.get(f"{PRODUCTS}?{query}")
    assert (refused.status_code, problem(refused)["code"], problem(refused)["attr"]) == (400, code, attr)


@pytest.mark.parametrize("query", ["created_after=2026-11-29T10:00:00%2B01:00", "created_after=2026-11-29T09:00:00Z"])
def test_an_escaped_plus_and_utc_are_accepted(api: APIClient, query: str) -> None:
    assert api.get(f"{PRODUCTS}?{query}").status_code == 200


def test_the_message_about_a_plus_names_both_ways(api: APIClient) -> None:
    detail = problem(api.get(f"{PRODUCTS}?created_after=2026-11-29T10:00:00+01:00"))["detail"]
    assert "%2B" in detail and "2026-11-29T10:00:00Z" in detail and "%%" not in detail


@pytest.mark.parametrize("address", ["/api/v1/categories", PREDICTIONS])
def test_parameters_are_rejected_where_there_are_none(api: APIClient, address: str) -> None:
    refused = api.generic("POST" if address == PREDICTIONS else "GET", f"{address}?title=Lamp")
    assert (refused.status_code, problem(refused)["code"]) == (400, "unknown_parameter")


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain"])
def test_another_media_type_is_answered_with_the_right_one(api: APIClient, content_type: str) -> None:
    refused = api.generic("POST", PREDICTIONS, '{"title": "Lamp"}', content_type=content_type)
    assert refused.status_code == 415
    assert "multipart/form-data" in problem(refused)["detail"] and content_type in problem(refused)["detail"]


def test_a_form_is_answered_with_json_where_json_is_read(
    api: APIClient, seller: User, make_product: MakeProduct
) -> None:
    address = f"{PREDICTIONS}/{make_product(seller, answered=False).prediction_id}/feedback"
    refused = api.post(address, {"category": "beauty"}, format="multipart")
    assert refused.status_code == 415 and "application/json" in problem(refused)["detail"]


def test_another_method_is_answered_with_the_right_ones(
    api: APIClient, seller: User, make_product: MakeProduct
) -> None:
    refused = api.put(f"{PRODUCTS}/{make_product(seller, answered=False).pk}", {"title": "Mug"}, format="json")
    assert refused.status_code == 405
    assert "GET, PATCH, DELETE" in problem(refused)["detail"]


@pytest.mark.parametrize(
    ("address", "words"),
    [("/api/v1/products/", "no slash"), ("/api/v1/items", "/api/docs/"), ("/api/v1/products/%0A", "/api/docs/")],
)
def test_another_address_is_answered_with_where_to_look(api: APIClient, address: str, words: str) -> None:
    refused = api.get(address)
    assert (refused.status_code, problem(refused)["code"]) == (404, "not_found")
    assert words in problem(refused)["detail"]


def test_another_format_is_answered_with_json(api: APIClient) -> None:
    refused = api.get(PRODUCTS, headers={"Accept": "text/csv"})
    assert refused.status_code == 406 and "application/json" in problem(refused)["detail"]


@pytest.mark.parametrize(
    "header",
    [None, "Token abc", "Basic YTpi", "bearer: abc", "abc", "Bearer", "Bearer a b", "Bearer abc", "Bearer \u00ff"],
)
def test_another_token_scheme_is_answered_with_the_right_header(client: Client, db: None, header: str | None) -> None:
    refused = client.get(PRODUCTS, headers={"Authorization": header} if header else {})
    assert refused.status_code == 401
    assert "Authorization: Bearer TOKEN" in problem(refused)["detail"]
    assert refused["WWW-Authenticate"] == "Bearer"
