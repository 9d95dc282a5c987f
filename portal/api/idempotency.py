"""Process a POST with an Idempotency-Key once, and repeat its response for 24 hours.

It follows draft-ietf-httpapi-idempotency-key-header: a key belongs to one seller and one request; the same request
again gets the first response, another request with the same key 422, and one that comes during the first 409.

A handler stores its response in the transaction of its effect, so that a process that dies in between leaves either
both or neither. Until the handler returns it holds a lease on the key; a request that was never completed can be sent
again when the lease ends.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import wraps
from typing import Any, cast

from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.utils import OpenApiParameter
from rest_framework import exceptions, status
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from common.leases import Claim, claim_rows
from portal.api.models import LONGEST_KEY, IdempotentRequest
from portal.models import User

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
LEASE = timedelta(minutes=2)  # longer than any request takes
# The draft's header is a quoted string; the common form without quotes means the same.
KEY = re.compile(r'"(?P<quoted>[\x20\x21\x23-\x7e]+)"|(?P<bare>[\x21\x23-\x7e]+)')

PARAMETER = OpenApiParameter(
    HEADER,
    {"type": "string", "pattern": f"^[!#-~]{{1,{LONGEST_KEY}}}$"},
    OpenApiParameter.HEADER,
    description=(
        f"A value of your choice for this request, for example a UUID, at most {LONGEST_KEY} characters. For 24 hours, "
        "the same request with the same key gets the first response again and changes nothing."
    ),
)


class KeyInUse(exceptions.APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "idempotency_in_progress"
    default_detail = gettext_lazy("The first request with this Idempotency-Key is still being processed.")
    wait = 1  # becomes Retry-After


class KeyReused(exceptions.APIException):
    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "idempotency_key_reused"
    default_detail = gettext_lazy(
        "This Idempotency-Key was used for another request in the last 24 hours. Send each new request with a new key."
    )


class LeaseLost(exceptions.APIException):
    """The request took so long that another one with its key has begun. Its own changes are rolled back."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "idempotency_in_progress"
    default_detail = KeyInUse.default_detail


class IdempotentView:
    """A view with operations that are `idempotent`."""

    claim: Claim[IdempotentRequest] | None = None

    def store_response(self, response: Response) -> None:
        """Store the response under the request's key, if it has one, in the transaction of the request's effect.

        Raises LeaseLost, which rolls the effect back, when another request has taken over the key.
        """
        # Not the claim's own `record`, which would end the lease before the handler has ended.
        if self.claim and not _held(self.claim).update(**_as_fields(response)):
            raise LeaseLost()


def idempotent(handler: Callable[..., Response]) -> Callable[..., Response]:
    """Process a request with a key once. The handler calls `store_response` in the transaction of its effect."""

    @wraps(handler)
    def wrapped(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = _key_of(request)
        if key is None:
            return handler(view, request, *args, **kwargs)
        claim = _begin(cast(User, request.user), key, _fingerprint(request))
        if isinstance(claim, Response):
            return claim
        view.claim = claim
        try:
            response = handler(view, request, *args, **kwargs)
        except Exception:
            _give_up(claim)
            raise
        claim.record(**_as_fields(response))
        return response

    return wrapped


def delete_expired() -> int:
    """Delete keys with their responses after 24 hours and return how many."""
    return IdempotentRequest.objects.expired().delete()[0]


def _key_of(request: Request) -> str | None:
    """Return the request's key, or None without one. Raises ValidationError for one that is no key."""
    header = request.headers.get(HEADER)
    if header is None:
        return None
    found = KEY.fullmatch(header.strip())
    key = found and (found["quoted"] or found["bare"])
    if not key or len(key) > LONGEST_KEY:
        words = _("An Idempotency-Key has 1 to %d printable ASCII characters, for example those of a UUID.")
        raise exceptions.ValidationError({HEADER: words % LONGEST_KEY}, "invalid_idempotency_key")
    return key


def _begin(seller: User, key: str, fingerprint: str) -> Claim[IdempotentRequest] | Response:
    """Claim the key for this request, or return the response of the first one. Raises KeyReused and KeyInUse."""
    mine = IdempotentRequest.objects.filter(seller=seller, key=key)
    mine.expired().delete()
    # Of simultaneous requests all but one insert nothing, and one claims the row.
    IdempotentRequest.objects.bulk_create(
        [IdempotentRequest(seller=seller, key=key, fingerprint=fingerprint)], ignore_conflicts=True
    )
    row = mine.first()
    if row and row.fingerprint != fingerprint:
        raise KeyReused()
    claim = claim_rows(mine.filter(fingerprint=fingerprint, status=None), duration=LEASE)
    if claim:
        return claim
    completed = mine.completed().first()
    if completed is None:
        raise KeyInUse()
    return _repeated_response(completed)


def _repeated_response(row: IdempotentRequest) -> Response:
    response = Response(json.loads(row.body), status=row.status, headers={REPLAYED: "true"})
    if row.location:
        response["Location"] = row.location
    return response


def _give_up(claim: Claim[IdempotentRequest]) -> None:
    """Forget a request without an effect, so that it can be corrected and sent again with its key."""
    _held(claim).filter(status=None).delete()
    claim.release()  # an error after the effect: the stored response is repeated


def _held(claim: Claim[IdempotentRequest]) -> QuerySet[IdempotentRequest]:
    return IdempotentRequest.objects.filter(pk=claim.rows[0].pk, lease_token=claim.token)


def _as_fields(response: Response) -> dict[str, Any]:
    # As text: JSON columns of PostgreSQL sort the keys, and the response would no longer be the same.
    body = JSONRenderer().render(response.data).decode()
    return {"status": response.status_code, "location": response.get("Location", ""), "body": body}


def _fingerprint(request: Request) -> str:
    """Return a digest of method, address and content. The parts of a form may be sent in another order."""
    digest = hashlib.sha256()
    for part in (request.method or "", request.path, *_parts(request.data)):
        content = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(content) + content)
    return digest.hexdigest()


def _parts(data: Any) -> Iterator[str | bytes]:
    if not hasattr(data, "lists"):
        yield json.dumps(data, sort_keys=True)
        return
    for name, values in sorted(data.lists()):
        for value in values:
            yield name
            yield _digest_of(value) if isinstance(value, UploadedFile) else str(value)


def _digest_of(upload: "UploadedFile[Any]") -> bytes:
    digest = hashlib.sha256()
    for chunk in upload.chunks():
        digest.update(chunk)
    upload.seek(0)
    return digest.digest()
