#!/usr/bin/env python
import os
import sys

NEEDS_NO_SERVERS = {
    "check", "collectstatic", "compilemessages", "diffsettings", "help", "makemessages", "spectacular", "version",
}  # fmt: skip


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    try:
        from django.core.management import execute_from_command_line

        from portal.operations import embedded_services
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}. Aisle is not installed here yet: run `make install` first.") from error

    if len(sys.argv) > 1 and sys.argv[1] not in NEEDS_NO_SERVERS and "--help" not in sys.argv:
        try:
            embedded_services.ensure_running()
        except embedded_services.EmbeddedServerError as error:
            raise SystemExit(str(error)) from error
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
