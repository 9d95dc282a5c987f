"""What lies in Valkey is data: no value in it runs code, and one that Aisle did not write is as good as none."""

import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django_redis import get_redis_connection
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import ContentDisallowed
from rest_framework.test import APIClient

from classifier.serving import queue_metrics
from feedback.review.views import AGREEMENT
from portal.celery import app
from portal.models import User
from portal.operations import cache as portal_cache

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


class Touch:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def attack(tmp_path: Path) -> Iterator[bytes]:
    """A pickle that must never be loaded; the test fails when it was."""
    yield pickle.dumps(Touch(tmp_path / "ran"))
    assert not (tmp_path / "ran").exists(), "a value from Valkey ran code"


def plant(key: str, value: bytes) -> None:
    """Write a raw value under a key of the cache, as somebody with access to Valkey can."""
    get_redis_connection().set(cache.make_key(key), value)


FOREIGN = [b"5", b"", b"[]", b'{"interactive": 1}', b"\x00" * 40, "überall".encode(), pickle.dumps([1.0, 2.0])]


@given(JSON)
def test_what_is_cached_comes_back_as_it_was(value: Any) -> None:
    serializer = portal_cache.SignedJSONSerializer({})
    assert serializer.loads(serializer.dumps(value)) == value


@given(st.binary(max_size=80))
def test_no_bytes_but_signed_ones_are_read(value: bytes) -> None:
    with pytest.raises(portal_cache.UnreadableValue):
        portal_cache.SignedJSONSerializer({}).loads(value)


@pytest.mark.parametrize("value", FOREIGN)
def test_a_foreign_value_is_a_miss_and_can_be_replaced(value: bytes) -> None:
    plant("one", value)
    cache.set("two", [2])
    assert cache.get("one", "missing") == "missing"
    plant("one", value)
    assert cache.get_many(["one", "two", "three"]) == {"two": [2]}
    plant("one", value)
    assert cache.get_or_set("one", 1) == 1
    assert cache.get("one") == 1


def test_a_list_in_place_of_a_value_is_a_miss() -> None:
    get_redis_connection().rpush(cache.make_key("one"), b"value")
    assert cache.get("one", "missing") == "missing"


def test_a_value_signed_with_another_key_is_a_miss(settings: Any) -> None:
    cache.set("one", 1)
    settings.SECRET_KEY = "another" * 10
    assert cache.get("one") is None


def test_a_pickle_is_never_loaded(attack: bytes) -> None:
    plant("one", attack)
    assert cache.get("one") is None
    plant("one", attack)
    assert cache.get_many(["one"]) == {}


def test_values_of_an_older_version_are_not_even_looked_at(attack: bytes) -> None:
    get_redis_connection().set(cache.make_key("one", version=1), attack)
    assert cache.get("one") is None


@pytest.mark.django_db
def test_no_page_and_no_route_of_the_api_runs_what_lies_in_valkey(
    attack: bytes, client: Client, api: APIClient, seller: User, scientist: User
) -> None:
    """Every key that the product reads holds a pickle; then it is asked for by the page that reads it."""
    client.post(reverse("account_login"), {"login": seller.email, "password": "wrong"})
    api.get("/api/v1/products")
    client.force_login(scientist)
    client.get(reverse("review"))
    store = get_redis_connection()
    keys = [key for key in store.keys(cache.make_key("*")) if not key.endswith(b":lock")]
    assert any(b"allauth" in key for key in keys) and any(b"throttle" in key for key in keys)
    for key in [*keys, cache.make_key(queue_metrics.KEY), cache.make_key(AGREEMENT)]:
        store.set(key, attack)
    assert client.get(reverse("ready")).json()["cache"]
    assert client.get(reverse("review")).status_code == 200
    assert api.get("/api/v1/products").status_code == 200
    assert Client().post(reverse("account_login"), {"login": seller.email, "password": "wrong"}).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("value", [None, 3, [], {}, {"interactive": {}, "bulk": {}}, {"interactive": {"lost": 1}}])
def test_a_load_of_another_form_is_measured_again(value: Any) -> None:
    cache.set(queue_metrics.KEY, value)
    assert queue_metrics.current_load() == queue_metrics.measure_load()
    assert queue_metrics.Load.from_cache(cache.get(queue_metrics.KEY)) == queue_metrics.measure_load()


@pytest.mark.django_db
@pytest.mark.parametrize("value", [None, 3, [], [3], [{"value": 1}], [1, 2]])
def test_an_agreement_of_another_form_is_computed_again(value: Any, client: Client, scientist: User) -> None:
    client.force_login(scientist)
    cache.set(AGREEMENT, value)
    assert client.get(reverse("review")).status_code == 200
    assert cache.get(AGREEMENT) == [None]


def test_celery_takes_json_only() -> None:
    assert set(app.conf.accept_content) == set(app.conf.result_accept_content) == {"json"}
    serializers = {app.conf.task_serializer, app.conf.result_serializer, app.conf.event_serializer}
    assert serializers == {"json"}


@pytest.mark.parametrize("exchange", ["task", "control"])
def test_a_pickled_message_to_a_worker_is_refused(exchange: str, attack: bytes) -> None:
    """Read a message as a worker's consumer does."""
    with app.connection() as connection, connection.channel() as channel:
        message = channel.prepare_message(
            attack, content_type="application/x-python-serialize", content_encoding="binary"
        )
        raw = channel.message_to_python(
            channel.Message(
                channel=channel,
                payload={**message, "properties": {**message["properties"], "delivery_tag": "1", "delivery_info": {}}},
            )
        )
        raw.accept = app.control.mailbox.accept if exchange == "control" else set(app.amqp.TaskConsumer(channel).accept)
        with pytest.raises(ContentDisallowed):
            raw.decode()


def test_the_sessions_are_json() -> None:
    assert settings.SESSION_SERIALIZER == "django.contrib.sessions.serializers.JSONSerializer"


UNSAFE = re.compile(
    r"^\s*(import|from) (pickle|marshal|shelve|dill|joblib|cloudpickle|jsonpickle)\b"
    r"|allow_pickle=True|weights_only=False|trust_remote_code=True|yaml\.(unsafe_)?load\("
    r"|torch\.load\((?!.*weights_only=True)",
    re.MULTILINE,
)


@pytest.mark.parametrize("room", ["portal", "classifier", "feedback", "training", "deploy"])
def test_no_code_of_the_product_reads_data_in_a_form_that_can_run_code(room: str) -> None:
    """Neither from Valkey nor from storage, the database or a file."""
    files = list((settings.BASE_DIR / room).rglob("*.py"))
    assert files
    assert not [str(path) for path in files if UNSAFE.search(path.read_text())]
