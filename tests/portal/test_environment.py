import os
import runpy
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.core.exceptions import ImproperlyConfigured

from portal.management.commands.check_production import PRODUCTION
from portal.server_settings import email_settings

ROOT = Path(__file__).parents[2]


def read_settings(**environment: str) -> dict[str, Any]:
    """Return what portal/settings.py defines in this environment."""
    with mock.patch.dict(os.environ, environment):
        return runpy.run_path(str(ROOT / "portal" / "settings.py"))


def refusal(**environment: str) -> str:
    """Return what a process that stops at these settings prints."""
    with pytest.raises(ImproperlyConfigured) as caught:
        read_settings(**environment)
    return "".join(traceback.format_exception(caught.value)).strip()


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
        ("REDIS_URL", "redis://h:abc/0"),
        ("DATABASE_URL", "postgresql://h:abc/aisle"),
        ("EMAIL_URL", "mail.example"),
        ("EMAIL_URL", "smtp://"),
        ("EMAIL_URL", "smtp://h:abc"),
        ("EMAIL_URL", "smtp://h:587?tls=on"),
        ("EMAIL_URL", "smtp://h:587?ssl=1"),
        ("EMAIL_URL", "smtps://h?tls=1"),
        ("EMAIL_URL", "file://folder"),
        ("EMAIL_URL", "file://"),
        ("HSTS_SECONDS", "-1"),
        ("TRUSTED_PROXIES", "one"),
        ("VERY_LIKELY", "80"),
        ("AWS_S3_ENDPOINT_URL", "storage:9000"),
        ("MODEL_DEVICE", "tpu"),
        ("LOG_LEVEL", "loud"),
        ("DEBUG", "maybe"),
    ],
)
def test_a_wrong_value_is_refused_and_named(name: str, value: str) -> None:
    assert name in refusal(**{name: value}).splitlines()[-1]


def test_wrong_values_stop_the_start_and_are_named_on_the_last_line() -> None:
    result = start(BATCH_SIZE="many", DATABASE_URL="mysql://root:hunter2@db/aisle")
    assert result.returncode != 0
    assert "BATCH_SIZE" in result.stderr.strip().splitlines()[-1]
    assert "DATABASE_URL" in result.stderr.strip().splitlines()[-1]
    assert "hunter2" not in result.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://root:hunter2@db/aisle"),
        ("DATABASE_URL", "postgresql://root:hunter2/@db/aisle"),
        ("REDIS_URL", "redis://:hunter2/@cache/0"),
        ("EMAIL_URL", "smtp://me:hunter2/@mail"),
    ],
)
def test_a_wrong_value_is_not_repeated_in_the_message(name: str, value: str) -> None:
    assert "hunter2" not in refusal(**{name: value})


@pytest.mark.parametrize(
    "missing", ["SECRET_KEY", "DATABASE_URL", "REDIS_URL", "ALLOWED_HOSTS", "TRUSTED_PROXIES", "EMAIL_URL"]
)
def test_production_needs_what_has_no_safe_default(missing: str) -> None:
    assert missing in refusal(**{**PRODUCTION, missing: ""})


@pytest.mark.parametrize("url", ["console://", "file:///var/mail"])
def test_production_mails_by_smtp_only(url: str) -> None:
    assert "EMAIL_URL" in refusal(**{**PRODUCTION, "EMAIL_URL": url})


@pytest.mark.parametrize(
    "url", ["redis://valkey.example:6379/0", "rediss://valkey.example", "redis://user@10.0.0.3/0", "redis://:@valkey/0"]
)
def test_production_refuses_a_valkey_that_the_whole_network_can_use(url: str) -> None:
    assert "a password in REDIS_URL" in refusal(**{**PRODUCTION, "REDIS_URL": url}).splitlines()[-1]


@pytest.mark.parametrize(
    "url",
    [
        "redis://:word@valkey.example:6379/0",
        "redis://aisle:word@valkey.example/0",
        "rediss://valkey.example/0?password=word",
        "rediss://valkey.example/0?ssl_certfile=/run/aisle.pem",
        "redis://127.0.0.1:6379/0",
        "redis://[::1]/0",
        "redis://localhost/0",
        "unix:///run/valkey/valkey.sock",
    ],
)
def test_production_accepts_a_valkey_with_password_certificate_or_local_address(url: str) -> None:
    assert read_settings(**{**PRODUCTION, "REDIS_URL": url})["REDIS_URL"] == url


def test_valkey_may_be_open_outside_production() -> None:
    assert read_settings(REDIS_URL="redis://valkey:6379/0")["REDIS_URL"] == "redis://valkey:6379/0"


def test_production_starts_with_every_setting_it_needs() -> None:
    result = start(**PRODUCTION)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "changed", [{"TRUSTED_PROXIES": "0"}, {"EMAIL_URL": "smtps://mail.example"}, {"HSTS_INCLUDE_SUBDOMAINS": "1"}]
)
def test_production_accepts_other_values_of_what_it_needs(changed: dict[str, str]) -> None:
    assert read_settings(**{**PRODUCTION, **changed})["PRODUCTION"]


@pytest.mark.parametrize(
    ("url", "port", "tls", "ssl"),
    [
        ("smtp://mail.example", 25, False, False),
        ("smtp://mail.example:587?tls=1", 587, True, False),
        ("smtp://mail.example:587?tls=true", 587, True, False),
        ("smtp://mail.example:587?tls=yes", 587, True, False),
        ("smtps://mail.example", 465, False, True),
        ("smtps://mail.example:2465", 2465, False, True),
    ],
)
def test_mail_is_encrypted_as_its_address_says(url: str, port: int, tls: bool, ssl: bool) -> None:
    settings = email_settings(url)
    assert (settings["EMAIL_HOST"], settings["EMAIL_PORT"]) == ("mail.example", port)
    assert (settings["EMAIL_USE_TLS"], settings["EMAIL_USE_SSL"]) == (tls, ssl)


def test_hsts_includes_subdomains_only_where_configured() -> None:
    names = ("SECURE_HSTS_SECONDS", "SECURE_HSTS_INCLUDE_SUBDOMAINS", "SECURE_HSTS_PRELOAD")
    usual = read_settings(**PRODUCTION)
    assert [usual[name] for name in names] == [31_536_000, False, False]
    widened = read_settings(**PRODUCTION, HSTS_SECONDS="60", HSTS_INCLUDE_SUBDOMAINS="1")
    assert [widened[name] for name in names] == [60, True, True]


def test_production_requires_two_factors_of_staff() -> None:
    assert read_settings(**PRODUCTION)["STAFF_MFA_REQUIRED"]


def test_the_web_process_never_imports_torch_and_no_start_waits_for_scipy() -> None:
    code = (
        "import sys, django; django.setup(); import portal.urls, portal.wsgi, portal.tasks, classifier.tasks;"
        "from django.test import Client; Client().get('/health/live/');"
        "heavy = {'torch', 'transformers', 'timm', 'torchvision', 'sklearn', 'scipy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    settings = {**os.environ, "DJANGO_SETTINGS_MODULE": "portal.settings", "ALLOWED_HOSTS": "testserver"}
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=settings, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
