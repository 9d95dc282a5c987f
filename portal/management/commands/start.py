import io
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from honcho.manager import Manager

from portal.demo import demo_accounts

BIN = Path(sys.executable).parent
INTERRUPTED = 128 + signal.SIGINT


class Command(BaseCommand):
    help = "Bring the database up to date, then run web, workers and beat until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *, host: str, port: int, **options: Any) -> None:
        _check_port(host, port)
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        call_command("prepare", verbosity=0, stdout=io.StringIO())
        self._say_where_to_click(host, port)
        manager = Manager()
        for name, command in _processes(host, port).items():
            manager.add_process(name, command, env={**os.environ, "PYTHONUNBUFFERED": "1"}, cwd=str(settings.BASE_DIR))
        manager.loop()
        if manager.returncode not in (None, 0, INTERRUPTED):
            sys.exit(manager.returncode)

    def _say_where_to_click(self, host: str, port: int) -> None:
        address = f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{port}"  # noqa: S104
        lines = [f"Aisle is starting. Open {address}/ and log in:", ""]
        if not settings.PRODUCTION:
            lines += [f"  {a.role:15} {a.email:23} {a.password}" for a in demo_accounts()]
            lines += [
                "",
                "These demo passwords were made for this installation and are kept in demo-accounts.json.",
            ]
        lines += [f"Admin {address}/admin/   API {address}/api/docs/   Ctrl-C stops everything.", ""]
        self.stdout.write("\n".join(lines))


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CommandError(
                f"Port {port} is taken by another program. Stop it, or choose another port: make run PORT={port + 1}"
            ) from error


def _processes(host: str, port: int) -> dict[str, str]:
    celery = f"{BIN}/celery -A portal"
    return {
        "web": f"{BIN}/gunicorn portal.wsgi --bind {host}:{port}",
        "predict": f"{celery} worker -Q predict -c 1 -n predict@%h --without-gossip --without-mingle -l WARNING",
        "default": f"{celery} worker -Q default -c 2 -n default@%h --without-gossip --without-mingle -l WARNING",
        "beat": f"{celery} beat -l WARNING --pidfile=",
    }
