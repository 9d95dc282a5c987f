from enum import StrEnum

import pytest

from feedback.monitoring.drift_labels import LABELS, drift_label
from feedback.statistics.drift.codes import OLDER_NAMES, ColumnState, DriftColumn, InputKind, Measure, current_code

CODES: list[type[StrEnum]] = [DriftColumn, InputKind, ColumnState, Measure]


@pytest.mark.parametrize("codes", CODES)
def test_every_code_has_a_label(codes: type[StrEnum]) -> None:
    assert {code for code in codes if code not in LABELS} == set()


def test_every_older_name_is_read_as_a_code_of_today() -> None:
    known = {code.value for codes in CODES for code in codes}
    assert {current_code(name) for name in OLDER_NAMES} <= known
    assert drift_label("text length") == drift_label(DriftColumn.TEXT_LENGTH) == "text length"


def test_an_unknown_name_stays_as_it_is() -> None:
    assert drift_label("colour") == "colour"
