"""Send requests to the API as a program does, and read its error responses."""

from knox.models import AuthToken
from rest_framework.test import APIClient

from portal.models import User


def api_client(user: User) -> APIClient:
    """Return a client with a token of the user."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {AuthToken.objects.create(user=user)[1]}")
    return client


def problem(response: object) -> dict[str, str]:
    """Return the first error, and check that the response has the format of all errors."""
    body = response.json()  # type: ignore[attr-defined]
    assert set(body) == {"type", "errors"}
    assert all(set(error) == {"code", "detail", "attr"} for error in body["errors"])
    first: dict[str, str] = body["errors"][0]
    return first
