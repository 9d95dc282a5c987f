"""Schemathesis over the whole OpenAPI document, against the WSGI application and the real database."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from knox.models import AuthToken
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from portal.wsgi import application
from tests.support.accounts import make_user

schema = schemathesis.openapi.from_wsgi("/api/schema/?format=json", application)


@pytest.fixture
def token(committed_db: None) -> str:
    return str(AuthToken.objects.create(user=make_user("fuzzer@shop.example"))[1])


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_operation_does_what_its_document_says(case: schemathesis.Case, token: str) -> None:
    # What a schema can't say: which bytes are a picture, that a title or an image is needed, and that a form knows no
    # types: an object sent as the title is its text.
    beyond_schemas = (
        [positive_data_acceptance, negative_data_rejection]
        if case.operation.label == "POST /api/v1/predictions"
        else []
    )
    case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, excluded_checks=beyond_schemas)
