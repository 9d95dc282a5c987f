"""Codes in manifests: each has a label, and what an older version wrote in words is read as codes."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from feedback.models import Feedback
from feedback.models.answers import TRUSTED
from portal.models import User
from training.datasets.feedback_examples import REVIEW_REASONS
from training.datasets.manifest_codes import DatasetWarning, ExclusionReason, read_exclusions
from training.datasets.manifest_labels import EXCLUSION_LABELS, WARNING_LABELS, exclusion_label, warning_text
from training.management.commands.make_dataset import summary
from training.models import Dataset

WORDS = Path(__file__).with_name("manifests") / "words.json"  # as the version before codes wrote it


@pytest.fixture
def manifest_in_words() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(WORDS.read_text(encoding="utf-8"))
    return manifest


def test_every_code_has_a_label() -> None:
    assert set(EXCLUSION_LABELS) == set(ExclusionReason)
    assert set(WARNING_LABELS) == set(DatasetWarning)


def test_every_review_that_keeps_an_answer_out_has_a_reason() -> None:
    assert set(REVIEW_REASONS) == {str(review) for review in Feedback.Review if review not in TRUSTED}


def test_an_older_manifests_words_are_read_as_codes(manifest_in_words: dict[str, Any]) -> None:
    exclusions = read_exclusions(manifest_in_words)
    assert set(exclusions) == set(ExclusionReason)
    assert exclusions[ExclusionReason.SIMILAR_TO_TWO_SPLITS] == 1
    assert exclusions[ExclusionReason.ERASED] == 12
    assert read_exclusions({"exclusions": dict(exclusions)}) == exclusions
    assert [warning_text(warning) for warning in manifest_in_words["warnings"]] == manifest_in_words["warnings"]


def test_an_unknown_code_is_shown_as_it_is() -> None:
    assert exclusion_label("of_a_newer_version") == "of_a_newer_version"
    assert warning_text({"code": "of_a_newer_version", "category": "beauty"}) == "of_a_newer_version"


@pytest.mark.django_db
def test_pages_and_commands_show_an_older_dataset_in_todays_words(
    manifest_in_words: dict[str, Any], scientist: User
) -> None:
    dataset = Dataset.objects.create(checksum="a" * 64, manifest=manifest_in_words)
    client = Client()
    client.force_login(scientist)
    page = client.get(reverse("admin:training_dataset_change", args=[dataset.pk])).content.decode()
    assert "Similar to products of two splits" in page
    assert "pet-supplies has one training row" in page
    assert "Left out: Answer: photo is gone: 11" in summary(dataset)
