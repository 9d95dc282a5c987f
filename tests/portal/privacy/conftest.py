"""Give each test of personal data storages of its own, and erase at once."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from portal.privacy import erasing
from tests.support.private_data import STORAGE_ALIASES


@pytest.fixture(autouse=True)
def no_second_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "SECOND_PASS", timedelta())


@pytest.fixture(autouse=True)
def own_storages(settings: Any, tmp_path: Path) -> None:
    """Storages that hold what the test put there and nothing else."""
    settings.STORAGES = settings.STORAGES | {
        alias: {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / alias), "allow_overwrite": True},
        }
        for alias in STORAGE_ALIASES
    }
