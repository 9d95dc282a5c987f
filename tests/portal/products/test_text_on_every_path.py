"""What a model learns of a product and what it is served are the same text, wherever the product comes in."""

import io
import json
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from classifier.models import Prediction
from common.text import clean_description, clean_title
from portal.api.serializers import PredictionRequestSerializer
from portal.models import User
from portal.products.forms import ProductForm
from tests.support.product_files import import_table, write_table
from training.models import Example

TEXTS = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\t\r\n\x00\u202e\u2066\ud83d "), min_size=1, max_size=80
)
TITLE = "Cafe\u0301\u202e <b>mug</b>\x07\tｒｅｄ\u2066\u2069 &amp; bl\u200bue\n"
DESCRIPTION = "<p>Holds\u202e 0.3\u00a0l\x0b\r\nDish\u2067washer\x85safe</p> \r\n\r\n"


@given(title=TEXTS.filter(clean_title), description=TEXTS)
def test_the_form_and_the_api_store_what_an_import_learns(title: str, description: str) -> None:
    data = {"title": title, "description": description}
    learnt = {"title": clean_title(title), "description": clean_description(description)}
    form, request = ProductForm(data, seller=User()), PredictionRequestSerializer(data=data)
    assert form.is_valid() and request.is_valid(), (form.errors, request.errors)
    assert {name: form.cleaned_data[name] for name in learnt} == learnt
    assert {name: request.validated_data[name] for name in learnt} == learnt


@pytest.mark.django_db
def test_every_way_in_gives_the_models_the_same_text(
    tmp_path: Path, seller: User, browser: Client, api: APIClient
) -> None:
    browser.post("/products/new/", {"title": TITLE, "description": DESCRIPTION})
    response = api.post("/api/v1/predictions", {"title": TITLE, "description": DESCRIPTION})
    assert response.status_code == 202, response.content
    write_table(tmp_path / "shop", [("1", TITLE, DESCRIPTION, "Beauty", "")])
    import_table(tmp_path / "shop")
    served = list(Prediction.objects.values_list("title", "description"))
    learnt = list(Example.objects.values_list("title", "description"))
    assert served == 2 * learnt == 2 * [("Café mug red & blue", "Holds 0.3 l\nDishwasher safe")]
    assert _classify(TITLE, DESCRIPTION) == _classify(*learnt[0])


def _classify(title: str, description: str) -> object:
    printed = io.StringIO()
    call_command("classify", title=title, description=description, json=True, stdout=printed)
    return json.loads(printed.getvalue())["text"]
