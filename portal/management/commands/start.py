"""manage.py start: run the web process, workers and beat until Ctrl-C."""

import errno
import os
import shlex
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from portal.operations import installation, supervisor
from portal.operations.demo_accounts import demo_accounts

GRACE = 2  # seconds in addition to STOP_SECONDS
ROOT = "ignore:You're running the worker with superuser"  # one machine to try Aisle on; containers have their own user
BIN = Path(sys.executable).parent
LOCAL = ("127.0.0.1", "localhost")
EVERYWHERE = "0.0.0.0"  # noqa: S104
ELSEWHERE = "192.0.2.1"  # an address for documentation: nothing is sent to it


class Command(BaseCommand):
    help = "Bring the database up to date, then run the web process, workers and beat until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--predict", type=int, default=1, help="how many predict workers (default: 1)")

    def handle(self, *, host: str, port: int, predict: int, **options: Any) -> None:
        _check_port(host, port)
        installation.bring_up_to_date()
        call_command("collectstatic", interactive=False, verbosity=0)
        names = [] if settings.PRODUCTION else _names(host)
        self._print_addresses(host, port, names)
        hosts = ",".join(dict.fromkeys([*settings.ALLOWED_HOSTS, *names]))
        # Predictions and training share the cores: threads that spin while they wait would slow each other tenfold.
        environment = {
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONWARNINGS": ROOT,
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "ALLOWED_HOSTS": hosts,
        }
        status = supervisor.run(
            _processes(host, port, predict),
            vital="web",
            silence=settings.STALL_SECONDS,
            grace=settings.STOP_SECONDS + GRACE,
            environment=environment,
            folder=settings.BASE_DIR,
        )
        if status:
            self.stderr.write("The web process could not start, so all processes were stopped. Its output is above.")
            sys.exit(status)

    def _print_addresses(self, host: str, port: int, names: list[str]) -> None:
        address = f"http://{'localhost' if host in (*LOCAL, EVERYWHERE) else host}:{port}"
        lines = [f"Aisle is starting. Open {address}/ and log in:", ""]
        if not settings.PRODUCTION:
            lines += [f"  {a.role:15} {a.email:23} {a.password}" for a in demo_accounts()]
            lines += [
                "",
                "These demo passwords were generated for this installation and are kept in demo-accounts.json.",
            ]
        if host == EVERYWHERE:
            lines += ["From other devices: " + "  ".join(f"http://{name}:{port}/" for name in names)]
        lines += [f"Admin {address}/admin/   API {address}/api/docs/   Ctrl-C stops everything.", ""]
        self.stdout.write("\n".join(lines))
        self.stdout.flush()


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CommandError(_why_not(error, host, port)) from error
        except OverflowError as error:
            raise CommandError(f"There is no port {port}. Choose one from 1 to 65535.") from error


def _why_not(error: OSError, host: str, port: int) -> str:
    """Return why the web process can't listen there, and what to do."""
    other = "choose another port: make run PORT="
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use by another program. Stop it, or {other}{port + 1}"
    if error.errno == errno.EACCES:
        return f"Port {port} requires more permissions than yours. Use a port from 1024 on: {other}8000"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"This machine has no address {host}."
    return f"Aisle can't listen on {host}:{port}: {error.strerror}."


def _names(host: str) -> list[str]:
    """Return the names and addresses by which other devices reach this machine."""
    if host in LOCAL:
        return []
    if host != EVERYWHERE:
        return [host]
    name = socket.gethostname()
    found = [name, socket.getfqdn(), f"{name.partition('.')[0]}.local"]
    with suppress(OSError):  # not every machine can resolve its own name
        found += socket.gethostbyname_ex(name)[2]
    with (
        suppress(OSError),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
    ):  # or has a network
        probe.connect((ELSEWHERE, 9))
        found.insert(0, probe.getsockname()[0])
    return [known for known in dict.fromkeys(found) if not known.startswith(("127.", "localhost"))]


def _processes(host: str, port: int, predict: int) -> dict[str, str]:
    celery = f"{shlex.quote(str(BIN / 'celery'))} -q -A portal"
    worker = f"{celery} worker --without-gossip --without-mingle -l WARNING"
    predictors = ["predict", *(f"predict{number}" for number in range(2, predict + 1))]
    return {
        "web": f"{shlex.quote(str(BIN / 'gunicorn'))} portal.wsgi --bind {shlex.quote(host)}:{port}",
        **{name: f"{worker} -Q predict -c 1 -n {name}@%h" for name in predictors},
        # Archiving, imports and training get the processor time that predictions leave.
        "default": f"nice -n 10 {worker} -Q default -c 2 -n default@%h",
        # One run of each modality at a time, side by side; each fits its model in its own process.
        "training": f"nice -n 10 {worker} -Q training -c 2 -n training@%h",
        "beat": f"{celery} beat -l WARNING --pidfile=",
    }
