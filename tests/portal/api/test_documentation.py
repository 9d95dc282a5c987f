"""The documentation page shows every operation of the OpenAPI document, with examples that run."""

import contextlib
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from rest_framework.exceptions import APIException

from classifier.tasks import classify_pending
from portal.accounts import tokens
from portal.api import idempotency, views
from portal.api.documentation import examples
from portal.api.documentation.error_codes import ERROR_CODES
from portal.api.documentation.reference import Body, Operation, openapi_document, operations
from portal.products.services import create_photo_draft, submit_product
from tests.support.accounts import make_user
from tests.support.photos import photo_upload, product_photo

LARGEST_PAGE = 150_000  # bytes, with stylesheets
LEFT_OUT = {"error", "parse_error"}  # codes of the base classes


def operations_of_the_document() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, methods in openapi_document()["paths"].items()
        for method, operation in methods.items()
    ]


def documented() -> dict[str, Operation]:
    return {each.id: each for _tag, group in operations("https://aisle.example") for each in group}


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    operations_of_the_document(),
    ids=[operation["operationId"] for _method, _path, operation in operations_of_the_document()],
)
def test_every_operation_has_an_example_in_curl_and_in_python(
    method: str, path: str, operation: dict[str, Any], client: Client
) -> None:
    page = client.get("/api/docs/").content.decode()
    shown = documented()[operation["operationId"]]
    assert f'id="{shown.id}"' in page and f"<code>{path}</code>" in page
    start = "https://aisle.example" + path.split("{")[0]
    media_types = operation.get("requestBody", {"content": {"": {}}})["content"]
    assert len(shown.bodies) == len(media_types)
    for body in shown.bodies:
        assert start in body.curl and f"requests.{method.lower()}(" in body.python and "{id}" not in body.curl
        compile(body.python, shown.id, "exec")


@pytest.mark.parametrize("operation", documented().values(), ids=documented())
def test_an_example_has_all_fields_of_its_response(operation: Operation) -> None:
    example = examples.EXAMPLES[operation.id].response
    assert str(examples.EXAMPLES[operation.id].status) == operation.response_status
    top_level = {each.name for each in operation.response_fields if "." not in each.name}
    row = example[0] if isinstance(example, list) else example or {}
    assert set(row) == top_level


@pytest.mark.parametrize("language", ["curl", "python"])
def test_the_examples_run(address: str, language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if language == "curl" and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    monkeypatch.setattr(views, "LONGEST_WAIT", 0)  # no worker is running
    seller = make_user("reader@shop.example")
    draft = create_photo_draft(seller=seller, upload=photo_upload())
    product = submit_product(seller=seller, title="Guitar", sku="G-1", photos=[draft])
    classify_pending()
    for name in ("guitar.jpg", "back.jpg"):
        (tmp_path / name).write_bytes(product_photo())
    monkeypatch.setenv("TOKEN", tokens.create_token(user=seller, name="Examples", days=1))
    shown = [body for _tag, group in operations(address) for each in group for body in each.bodies]
    for body in sorted(shown, key=when_it_runs):
        source = body.curl if language == "curl" else body.python
        # An answer needs the prediction that is done, so the examples that change the product come after it.
        source = source.replace(examples.PRODUCT, str(product.pk)).replace(examples.PHOTO, str(draft.pk))
        source = source.replace(examples.PREDICTION, str(product.prediction_id))
        run = run_curl if language == "curl" else run_python
        assert run(source, tmp_path), source


def when_it_runs(body: Body) -> tuple[bool, ...]:
    """Return the place of an example among those of one product: its photo is fetched before it is replaced."""
    return "/restore" in body.curl, "DELETE" in body.curl, "/photos/" not in body.curl


def run_curl(command: str, folder: Path) -> bool:
    command = command.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
    return subprocess.run(["sh", "-c", command], cwd=folder, stdout=subprocess.DEVNULL).returncode == 0


def run_python(source: str, folder: Path) -> bool:
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        exec(compile(source, "example.py", "exec"), {})  # noqa: S102 - the example is what is tested
    return bool(printed.getvalue())


def test_the_page_needs_no_script_and_is_small(client: Client) -> None:
    page = client.get("/api/docs/").content.decode()
    sheets = re.findall(r'rel="stylesheet" href="/static/([^"]+)"', page)
    size = len(page.encode()) + sum(Path(settings.STATIC_ROOT, sheet).stat().st_size for sheet in sheets)
    assert "<script" not in page and len(sheets) == 2
    assert size < LARGEST_PAGE


def test_the_console_has_its_own_address(client: Client) -> None:
    page = client.get("/api/console/").content.decode()
    assert "swagger-ui" in page and "swagger-ui" not in client.get("/api/docs/").content.decode()
    assert "http://" not in page.replace("http://testserver", "") and "https://" not in page


def test_every_error_code_is_documented() -> None:
    listed = {code for row in ERROR_CODES for code in row.codes}
    raised = {each.default_code for each in subclasses(APIException) if each.__module__.startswith("portal.api")}
    for name in ("portal/products/photos.py", "portal/products/validators.py", "portal/api/filters.py"):
        raised |= set(re.findall(r'code="(\w+)"', Path(settings.BASE_DIR, name).read_text()))
    assert raised - LEFT_OUT <= listed
    assert idempotency.KeyReused.default_code in listed


def subclasses(base: type[Any]) -> set[type[Any]]:
    return {base}.union(*(subclasses(each) for each in base.__subclasses__()))
