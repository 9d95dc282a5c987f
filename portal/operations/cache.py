"""Store cache values in Valkey as signed JSON, so that a value that Aisle did not write is never read.

Someone who can write to Valkey can then neither run code in a web process nor give it a value of another structure.
"""

import hmac
import json
from typing import Any

from django.utils.crypto import salted_hmac
from django_redis.client import DefaultClient
from django_redis.serializers.base import BaseSerializer

SALT = "portal.cache"
SIGNATURE_BYTES = 32


class UnreadableValue(ValueError):
    """A cached value that this installation did not write, such as a pickle of an older version."""


class SignedJSONSerializer(BaseSerializer):
    """A serializer that puts an HMAC with SECRET_KEY before the JSON and reads nothing else. Tuples become lists."""

    def dumps(self, value: Any) -> bytes:
        body = json.dumps(value).encode()
        return _signature(body) + body

    def loads(self, value: bytes) -> Any:
        signature, body = value[:SIGNATURE_BYTES], value[SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, _signature(body)):
            raise UnreadableValue("a cached value carries no signature of this installation")
        return json.loads(body)


class Client(DefaultClient):
    """A client that treats an unreadable value as missing, and deletes it so that `add` can write another."""

    def encode(self, value: Any, *, allow_int: bool = True) -> Any:
        return super().encode(value, allow_int=False)  # a plain number would carry no signature

    def decode(self, value: Any) -> Any:
        return self._serializer.loads(value)

    def get(self, key: Any, default: Any = None, version: int | None = None, client: Any = None) -> Any:
        try:
            return super().get(key, default=default, version=version, client=client)
        except UnreadableValue:
            self.delete(key, version=version)
            return default

    def get_many(self, keys: Any, version: int | None = None, client: Any = None) -> dict[Any, Any]:
        keys = list(keys)
        try:
            return dict(super().get_many(keys, version=version, client=client))
        except UnreadableValue:  # one of them; the others are fine
            missing = object()
            found = {key: self.get(key, default=missing, version=version, client=client) for key in keys}
            return {key: value for key, value in found.items() if value is not missing}


def _signature(body: bytes) -> bytes:
    return salted_hmac(SALT, body, algorithm="sha256").digest()
