"""Page API lists by cursor."""

from datetime import UTC, datetime
from typing import Any

from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request


class NewestFirst(CursorPagination):
    """Pagination by cursor, which skips and repeats nothing while rows are added."""

    ordering = ("-created_at", "pk")
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200
    parameters = ("cursor", "page_size")

    def get_page_size(self, request: Request) -> int | None:
        """Return the requested size. Raises ValidationError for one that is not a number from 1 to 200."""
        asked = request.query_params.get("page_size", str(self.page_size))
        if not (asked.isascii() and asked.isdigit() and 1 <= int(asked[:6]) <= self.max_page_size):
            raise ValidationError({"page_size": f"Must be a number from 1 to {self.max_page_size}."})
        return int(asked)

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Return the requested cursor. Raises NotFound for one whose position is not a time."""
        cursor = super().decode_cursor(request)
        if cursor is None or cursor.position is None:
            return cursor
        try:
            position = datetime.fromisoformat(str(cursor.position))
            if position.tzinfo is None:
                raise ValueError("a position names its time zone")
            return cursor._replace(position=str(position.astimezone(UTC)))  # type: ignore[arg-type]  # the stubs err
        except (ValueError, OverflowError) as error:
            raise NotFound(self.invalid_cursor_message) from error

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        parameters: list[dict[str, Any]] = super().get_schema_operation_parameters(view)
        for parameter in parameters:
            if parameter["name"] == "page_size":
                parameter["schema"] |= {"minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        return parameters
