"""Describe the API in OpenAPI: errors, headers and parameters that views share."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema as BaseAutoSchema
from rest_framework import serializers


class ProblemSerializer(serializers.Serializer[dict[str, Any]]):
    """One error."""

    code = serializers.CharField(help_text="For programs; it doesn't change.")
    detail = serializers.CharField(help_text="For people.")
    attr = serializers.CharField(allow_null=True, help_text="The field that is wrong.")


class ProblemsSerializer(serializers.Serializer[dict[str, Any]]):
    """The format of every error response."""

    type = serializers.CharField(help_text="`client_error`, `server_error` or `validation_error`.")
    errors = ProblemSerializer(many=True)  # type: ignore[assignment]


class AutoSchema(BaseAutoSchema):
    """A schema that documents the error format beside every operation's own responses."""

    def _get_response_bodies(self, direction: str = "response") -> Any:
        responses = super()._get_response_bodies(direction)  # type: ignore[arg-type]
        codes = {"401", "403", "406", "429", "503"}
        if self.method != "GET":
            codes |= {"400", "413", "415"}
        if self._is_list_view():
            codes |= {"400"}
        if "{" in self.path or getattr(self.view, "pagination_class", None):
            codes |= {"404"}
        for code in sorted(codes - set(responses)):
            responses[code] = self._get_response_for_code(ProblemsSerializer, code)
        return dict(sorted(responses.items()))


def forbid_unknown_fields(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say in the document that requests may have no other fields, as StrictSerializer enforces."""
    for name, component in result["components"]["schemas"].items():
        if name.endswith("Request"):
            component["additionalProperties"] = False
    return result


class BearerToken(OpenApiAuthenticationExtension):
    target_class = "portal.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A token made on the account page: `Authorization: Bearer …`.",
        }
