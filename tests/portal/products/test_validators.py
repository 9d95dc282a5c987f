import pytest
from django.core.exceptions import ValidationError

from portal.products import validators


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  Red \t mug\n", "Red mug"),
        ("Red\x00mug\x07", "Red mug"),
        ("🎸🎸 guitar 🧑‍🎤", "🎸🎸 guitar 🧑‍🎤"),
        ("كوب أحمر", "كوب أحمر"),
        ("mug\u202egpj.exe", "muggpj.exe"),
        ("Cafe\u0301", "Café"),
        ("broken \ud800 surrogate", "broken surrogate"),
        ("\x00\x01", ""),
    ],
)
def test_a_title_is_one_clean_line(typed: str, kept: str) -> None:
    assert validators.validate_title(typed) == kept


def test_a_description_keeps_its_lines() -> None:
    assert validators.validate_description("\r\n One \r\nTwo\x00 \n\n") == "One\nTwo"


def test_a_title_of_ten_thousand_characters_is_refused_with_both_figures() -> None:
    with pytest.raises(ValidationError, match="This title has 10,000 characters; the limit is 300"):
        validators.validate_title("x" * 10_000)


def test_a_title_or_a_photo_is_needed() -> None:
    validators.require_title_or_photo(title="Mug", has_photo=False)
    validators.require_title_or_photo(title="", has_photo=True)
    with pytest.raises(ValidationError, match="Add a photo or a title"):
        validators.require_title_or_photo(title="", has_photo=False)
