"""Turn environment variables into Django's settings for the secret key, files and mail."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.config import Config

from portal.environment import Environment


def own_secret_key(home: Path) -> str:
    """Return the key kept in `home`; create it the first time, readable only by its owner."""
    path = home / "secret_key"
    try:
        return path.read_text()
    except FileNotFoundError:
        home.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=home, prefix=".secret_key-") as file:  # mode 0600
        file.write(secrets.token_urlsafe(48))
        file.flush()
        # A link appears with its whole content, so two processes that start at once agree on one complete key.
        with suppress(FileExistsError):
            os.link(file.name, path)
    return path.read_text()


def storage_settings(env: Environment, folder: str) -> dict[str, object]:
    """Return the entry of STORAGES that keeps files under `folder`: in the bucket, or in AISLE_HOME without one."""
    if env.AWS_STORAGE_BUCKET_NAME:
        options = {
            "bucket_name": env.AWS_STORAGE_BUCKET_NAME,
            "endpoint_url": env.AWS_S3_ENDPOINT_URL or None,
            "region_name": env.AWS_S3_REGION_NAME,
            "location": folder,
            "default_acl": None,
            "file_overwrite": True,
            "max_memory_size": 16_000_000,  # of a file that is read; a larger one goes to the disk
            # A request or a worker must not hang on a storage that is away.
            "client_config": Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2}),
        }
        return {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
    options = {"location": str(env.AISLE_HOME.resolve() / "storage" / folder), "allow_overwrite": True}
    return {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}


def email_settings(url: str) -> dict[str, object]:
    """Return Django's EMAIL_* settings for an EMAIL_URL."""
    parts = urlsplit(url)
    if parts.scheme == "console":
        return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
    if parts.scheme == "file":
        return {
            "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
            "EMAIL_FILE_PATH": unquote(parts.path),
        }
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": parts.port or (465 if parts.scheme == "smtps" else 25),
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": "tls" in parse_qs(parts.query),
        "EMAIL_USE_SSL": parts.scheme == "smtps",
    }
