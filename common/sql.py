"""Load SQL queries from `.sql` files and read their rows by column name."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from django.db import connection

Row = TypeVar("Row")

Parameters = Mapping[str, Any]


def load_query(module_file: str, name: str) -> str:
    """Return the query in the `.sql` file with this name beside a module, given the module's `__file__`.

    Queries take named parameters, written `%(name)s`; a percent sign is written `%%`.
    """
    return Path(module_file).with_name(f"{name}.sql").read_text(encoding="utf-8")


def fetch_rows(query: str, parameters: Parameters, row_type: type[Row]) -> list[Row]:
    """Run a query and return its rows as `row_type` objects, whose fields are the query's columns.

    Raises TypeError where columns and fields differ.
    """
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        names = [column.name for column in cursor.description]
        return list(_make_rows(names, cursor.fetchall(), row_type))


def _make_rows(names: Sequence[str], rows: Sequence[Sequence[Any]], row_type: type[Row]) -> Iterator[Row]:
    for values in rows:
        yield row_type(**dict(zip(names, values, strict=True)))
