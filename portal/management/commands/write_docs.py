"""manage.py write_docs: write docs/settings.md and docs/openapi.yaml from the code."""

import io
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from pydantic.fields import FieldInfo

from portal.environment import Environment

HEAD = """# Settings

Aisle reads its settings from environment variables, once, at start. A wrong value stops the start and names the
variable. An empty variable counts as unset. This page is generated from `portal/environment.py` by `make docs`.

| variable | default | what it does |
|---|---|---|
"""


class Command(BaseCommand):
    help = "Write the documentation that is generated from code: docs/settings.md and docs/openapi.yaml."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")

    def handle(self, *, check: bool, **options: Any) -> None:
        for name, text in {"settings.md": _settings(), "openapi.yaml": _openapi()}.items():
            page = settings.BASE_DIR / "docs" / name
            if check and (not page.exists() or page.read_text() != text):
                raise CommandError(f"docs/{name} is out of date: run `make docs`.")
            if not check:
                page.write_text(text)


def _settings() -> str:
    return HEAD + "".join(
        f"| `{name}` | {_default(field)} | {field.description} |\n" for name, field in Environment.model_fields.items()
    )


def _default(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "shown_default" in extra:
        return str(extra["shown_default"])
    value = {True: "on", False: "off"}.get(field.default) if isinstance(field.default, bool) else field.default
    return f"`{value}`" if value != "" else ""


def _openapi() -> str:
    text = io.StringIO()
    call_command("spectacular", validate=True, fail_on_warn=True, stdout=text)
    return text.getvalue()
