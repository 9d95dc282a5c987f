"""Show the API's documentation."""

import json

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from portal.accounts.tokens import DEFAULT_DAYS
from portal.api.documentation.error_codes import ERROR_CODES
from portal.api.documentation.reference import operations
from portal.api.models import KEPT, LONGEST_KEY
from portal.api.pagination import NewestFirst
from portal.models import Product
from portal.products.photos import MOST_PHOTOS

ERROR_EXAMPLE = {
    "type": "validation_error",
    "errors": [
        {
            "code": "max_length",
            "detail": "This title has 400 characters; the limit is 300. Shorten it, please.",
            "attr": "title",
        }
    ],
}


@require_safe
def documentation(request: HttpRequest) -> HttpResponse:
    host = f"{request.scheme}://{request.get_host()}"
    limits = {
        "upload_rate": _rate_in_words(settings.UPLOAD_RATE),
        "request_rate": _rate_in_words(settings.API_RATE),
        "megabytes": settings.UPLOAD_LIMIT_MB,
        "megapixels": settings.UPLOAD_LIMIT_MEGAPIXELS,
        "photos": MOST_PHOTOS,
        "request_megabytes": settings.UPLOAD_REQUEST_LIMIT_BYTES // 1_000_000,
        "page_size": NewestFirst.page_size,
        "max_page_size": NewestFirst.max_page_size,
        "key_hours": int(KEPT.total_seconds() // 3600),
        "longest_key": LONGEST_KEY,
        "token_days": DEFAULT_DAYS,
    }
    context = {
        "host": host,
        "first_request": f'export TOKEN=…\ncurl {host}/api/v1/categories -H "Authorization: Bearer $TOKEN"',
        "groups": list(operations(host)),
        "error_codes": ERROR_CODES,
        "limits": limits,
        "states": Product.State.choices,
        "error_example": json.dumps(ERROR_EXAMPLE, indent=2),
    }
    return render(request, "api/documentation.html", context)


def _rate_in_words(rate: str) -> str:
    """Return "60 times a minute" for "60/minute"."""
    count, _slash, period = rate.partition("/")
    unit = {"s": "second", "m": "minute", "h": "hour", "d": "day"}[period[0]]
    return f"{int(count):,} times {'an' if unit == 'hour' else 'a'} {unit}"
