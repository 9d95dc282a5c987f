"""Share the fixture of ten busy days."""

import io

import pytest
from django.core.management import call_command

from portal.models import User
from tests.support.traffic import DAY, HOUR, SPANISH, TODAY, store_answer, store_predictions


@pytest.fixture
def busy(seller: User) -> None:
    """Ten days: reviewed products on each, and Spanish ones on the last."""
    start = TODAY - 10 * DAY
    for number in range(10):
        rows = store_predictions(
            seller, start + number * DAY, 60, within=3 * HOUR, words=SPANISH if number == 9 else "the new mug for you"
        )
        for place, row in enumerate(rows[:20]):
            store_answer(row, right=place % 4 > 0)
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=io.StringIO())
