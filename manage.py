#!/usr/bin/env python
"""Run a management command, on embedded servers and a prepared database where nothing else is configured."""

import os
import sys

NEEDS_NO_SERVERS = {
    "check", "collectstatic", "compilemessages", "diffsettings", "help", "makemessages", "spectacular", "version",
}  # fmt: skip
HELP = {"-h", "--help", "--version"}


def main() -> None:
    """Start what the command needs, then run it."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    try:
        import django
        from django.core.management import execute_from_command_line

        from portal.operations import embedded_services, installation
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}. Aisle is not installed here yet: run `make install` first.") from error

    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    if command not in NEEDS_NO_SERVERS and not HELP & set(sys.argv):
        try:
            is_embedded = embedded_services.ensure_running()
            django.setup()
            installation.prepare_for(command, is_embedded=is_embedded)
        except (embedded_services.EmbeddedServerError, installation.NotPrepared) as error:
            raise SystemExit(str(error)) from error
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
