import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from django.conf import settings
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.test import Client, override_settings
from django.test.testcases import LiveServerThread
from knox.models import AuthToken
from moto.server import ThreadedMotoServer
from pytest_django.plugin import blocking_manager_key
from rest_framework.test import APIClient

from classifier.models import Prediction
from classifier.tasks import classify_pending
from common import object_storage
from portal.accounts.roles import Role
from portal.models import Product, User
from portal.products.services import create_photo_draft, submit_product
from tests.support.accounts import make_user
from tests.support.homes import made_once
from tests.support.photos import photo_upload

# Those that start whole systems wait much, those that train models compute: they take turns, so that both cores work.
LONG_FILES = (
    "tests/system/test_survival.py",
    "tests/training/runs/test_pipeline.py",
    "tests/system/test_drift_to_live.py",
    "tests/system/test_journey.py",
    "tests/training/acceptance/test_gate_against_forgetting.py",
    "tests/system/test_workers.py",
    "tests/training/fit/test_fit.py",
    "tests/system/test_start.py",
    "tests/training/fit/test_processes.py",
    "tests/system/test_scientists_day.py",
    "tests/classifier/ml/test_engines.py",
    "tests/common/photos/test_copies.py",
)


def pytest_configure() -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one is slow on purpose


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files that take minutes first, so that no process of pytest-xdist is left with one of them at the end."""
    order = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path.relative_to(settings.BASE_DIR).as_posix(), len(order)))


def prepare() -> None:
    call_command("prepare", stdout=io.StringIO())


@pytest.fixture(scope="session", autouse=True)
def static_files() -> None:
    """Collect static files, which pages name by their content, as in production."""
    folder = made_once("static", collect_static)
    Path(settings.STATIC_ROOT).symlink_to(folder)


def collect_static(folder: Path) -> None:
    with override_settings(STATIC_ROOT=folder):
        call_command("collectstatic", interactive=False, verbosity=0)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """Copy the database of the prepared home instead of migrating another one."""
    connection.settings_dict["TEST"]["TEMPLATE"] = connection.settings_dict["NAME"]


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> None:
    with django_db_blocker.unblock():
        prepare()


@pytest.fixture
def committed_db(transactional_db: None) -> None:
    """A database whose transactions really commit, for tests with several connections."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """What a test with a database of committed transactions empties is filled again for the next one."""
    yield
    marker = item.get_closest_marker("django_db")
    is_committed = "transactional_db" in getattr(item, "fixturenames", ())
    if nextitem and (is_committed or (marker and marker.kwargs.get("transaction"))):
        with item.config.stash[blocking_manager_key].unblock():
            prepare()
            connection.close()


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    yield
    cache.clear()
    object_storage.breaker.close()


@pytest.fixture
def seller(db: None) -> User:
    return make_user("seller@shop.example")


@pytest.fixture
def other_seller(db: None) -> User:
    return make_user("other@shop.example")


@pytest.fixture
def scientist(db: None) -> User:
    return make_user("scientist@shop.example", Role.DATA_SCIENTIST)


@pytest.fixture
def administrator(db: None) -> User:
    return make_user("admin@shop.example", Role.ADMINISTRATOR)


@pytest.fixture
def browser(client: Client, seller: User) -> Client:
    """A logged-in seller's plain HTTP client."""
    client.force_login(seller)
    return client


@pytest.fixture
def api(seller: User) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {AuthToken.objects.create(user=seller)[1]}")
    return client


@pytest.fixture
def make_product(db: None) -> Callable[..., Product]:
    """Make a seller's product; `answered=True` asks the real models."""

    def make(
        seller: User, *, title: str = "Yamaha acoustic guitar with case", photo: bool = False, answered: bool = True
    ) -> Product:
        drafts = [create_photo_draft(seller=seller, upload=photo_upload())] if photo else []
        product = submit_product(seller=seller, title=title, photos=drafts)
        if answered:
            classify_pending()
            assert Prediction.objects.get(pk=product.prediction_id).state == Prediction.State.DONE
        return Product.objects.get(pk=product.pk)

    return make


@pytest.fixture
def address(committed_db: None, settings: Any) -> Iterator[str]:
    """The portal in a thread of its own, with its static files as in production."""
    settings.ALLOWED_HOSTS = ["localhost"]
    thread = LiveServerThread("localhost", static_handler=lambda application: application)
    thread.daemon = True
    thread.start()
    thread.is_ready.wait()
    assert thread.error is None, thread.error
    yield f"http://localhost:{thread.port}"
    thread.terminate()


@pytest.fixture
def data_folder() -> Path:
    """Real product data, where it is at hand."""
    import os

    folder = Path(os.environ.get("AISLE_DATA") or settings.BASE_DIR.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("real product data is not at hand: set AISLE_DATA")
    return folder


@pytest.fixture
def bucket(settings: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedMotoServer]:
    """All storages on a real S3 server."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket="aisle")
    options = {"bucket_name": "aisle", "endpoint_url": address, "region_name": "us-east-1", "file_overwrite": True}
    s3 = {
        alias: {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {**options, "location": room}}
        for alias, room in (
            ("default", "photos"),
            ("archive", "archive"),
            ("models", "models"),
            ("datasets", "datasets"),
            ("private", "private"),
        )
    }
    settings.STORAGES = {**settings.STORAGES, **s3}  # type: ignore[attr-defined]
    yield server
    server.stop()
