from dataclasses import dataclass
from pathlib import Path

import pytest

from common.sql import fetch_rows, load_query


@dataclass(frozen=True)
class NumberRow:
    number: int
    text: str


def test_a_query_is_read_from_the_file_beside_a_module(tmp_path: Path) -> None:
    (tmp_path / "numbers.sql").write_text("SELECT 1", encoding="utf-8")
    assert load_query(str(tmp_path / "module.py"), "numbers") == "SELECT 1"


@pytest.mark.django_db
def test_rows_are_read_by_column_name_with_named_parameters() -> None:
    query = "SELECT '5 %%' || %(suffix)s AS text, n AS number FROM generate_series(1, %(count)s) AS n ORDER BY n"
    rows = fetch_rows(query, {"suffix": "!", "count": 2}, NumberRow)
    assert rows == [NumberRow(1, "5 %!"), NumberRow(2, "5 %!")]


@pytest.mark.django_db
def test_columns_that_differ_from_the_fields_are_refused() -> None:
    with pytest.raises(TypeError):
        fetch_rows("SELECT 1 AS number, 2 AS other", {}, NumberRow)
