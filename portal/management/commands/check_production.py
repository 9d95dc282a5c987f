"""manage.py check_production: run Django's deployment check on production settings."""

import os
import subprocess
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

PRODUCTION = {
    "AISLE_PRODUCTION": "1",
    "SECRET_KEY": "".join(chr(33 + i) for i in range(64)),
    "ALLOWED_HOSTS": "aisle.example",
    "TRUSTED_PROXIES": "1",
    "DATABASE_URL": "postgresql://aisle@db.example/aisle",
    "REDIS_URL": "redis://:password@valkey.example:6379/0",
    "AWS_STORAGE_BUCKET_NAME": "aisle",
    "EMAIL_URL": "smtp://mail.example:587?tls=1",
}


class Command(BaseCommand):
    help = "Run Django's deployment check on production settings; a warning fails it."

    def handle(self, **options: Any) -> None:
        result = subprocess.run(
            [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
            cwd=settings.BASE_DIR,
            env={**os.environ, **PRODUCTION},
        )
        if result.returncode:
            raise CommandError("The deployment check failed.")
