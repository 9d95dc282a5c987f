import os
import subprocess
import sys
from pathlib import Path

import pytest

from portal.management.commands.check_production import PRODUCTION

ROOT = Path(__file__).parents[2]


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import django; django.setup()"]
    settings = {**os.environ, "DJANGO_SETTINGS_MODULE": "portal.settings", **environment}
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATCH_SIZE", "many"),
        ("BATCH_SIZE", "0"),
        ("DATABASE_URL", "mysql://root@db/aisle"),
        ("DATABASE_URL", "nonsense"),
        ("REDIS_URL", "http://cache"),
        ("UPLOAD_RATE", "60 per minute"),
        ("EMAIL_URL", "mail.example"),
        ("VERY_LIKELY", "80"),
        ("AWS_S3_ENDPOINT_URL", "storage:9000"),
        ("MODEL_DEVICE", "tpu"),
        ("LOG_LEVEL", "loud"),
        ("DEBUG", "maybe"),
    ],
)
def test_a_wrong_value_stops_the_start_with_its_name(name: str, value: str) -> None:
    result = start(**{name: value})
    assert result.returncode != 0
    assert name in result.stderr.strip().splitlines()[-1]


def test_a_wrong_value_is_not_repeated_in_the_message() -> None:
    assert "hunter2" not in start(DATABASE_URL="mysql://root:hunter2@db/aisle").stderr


@pytest.mark.parametrize("missing", ["SECRET_KEY", "DATABASE_URL", "REDIS_URL", "ALLOWED_HOSTS"])
def test_production_needs_what_has_no_safe_default(missing: str) -> None:
    result = start(**{**PRODUCTION, missing: ""})
    assert result.returncode != 0
    assert missing in result.stderr


def test_production_starts_with_all_of_it() -> None:
    assert start(**PRODUCTION).returncode == 0


def test_the_web_process_never_imports_torch() -> None:
    code = (
        "import sys, django; django.setup(); import portal.urls, portal.wsgi, portal.tasks, classifier.tasks;"
        "from django.test import Client; Client().get('/health/live/');"
        "heavy = {"
        "'torch', 'transformers', 'timm', 'torchvision', 'sklearn'} & set(sys.modules); assert not heavy, heavy"
    )
    settings = {**os.environ, "DJANGO_SETTINGS_MODULE": "portal.settings", "ALLOWED_HOSTS": "testserver"}
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=settings, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
