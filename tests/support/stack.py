"""Run a whole Aisle in a home of its own: real servers, a real web process, real workers, to be killed at will."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import celery
import psutil
import psycopg
import requests
from knox import crypto

from benchmarks.harness.processes import BIN, PATIENCE, ROOT, free_port, is_ready, kill_tree, wait_until
from tests.support.photos import product_photo
from tests.support.postgres import skip_syncing

LOG_CHARACTERS = 4000


def add_demo(home: Path) -> None:
    """Add demo accounts and static files to a prepared home, whose servers stop again."""
    stack = Stack(home)
    try:
        stack.manage("prepare", "--demo")
        stack.manage("collectstatic", "--no-input")
    finally:
        stack.stop_servers()


class Stack:
    """An installation with its servers up and none of its processes."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.processes: dict[str, psutil.Popen] = {}
        names = ("DATABASE_URL", "REDIS_URL")
        base = {name: value for name, value in os.environ.items() if name not in names}
        self.environment = {
            **base,
            "AISLE_HOME": str(home),
            "DJANGO_SETTINGS_MODULE": "portal.settings",
            "EMAIL_URL": f"file://{home}/mail",
            "LEASE_SECONDS": "5",
            "PYTHONFAULTHANDLER": "1",  # a command that `manage` aborts prints where it was
            **environment,
        }
        self.start_postgres()
        self.start_valkey()
        skip_syncing(self.environment["DATABASE_URL"])

    # Servers

    def start_postgres(self) -> None:
        self.environment["DATABASE_URL"] = self._embedded("print(embedded_services.start_postgres())")

    def start_valkey(self) -> None:
        self.environment["REDIS_URL"] = self._embedded("print(embedded_services.start_valkey())")

    def stop_postgres(self) -> None:
        self._embedded("embedded_services.stop_postgres()")

    def stop_valkey(self) -> None:
        self._embedded("embedded_services.stop_valkey()")

    def _embedded(self, code: str) -> str:
        command = [sys.executable, "-c", f"from portal.operations import embedded_services; {code}"]
        return subprocess.check_output(command, cwd=ROOT, env=self.environment, text=True).strip()

    # Processes

    def start(self, name: str, *command: str) -> None:
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = psutil.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def start_web(self) -> None:
        self.start("web", f"{BIN}/gunicorn", "portal.wsgi", "--bind", f"127.0.0.1:{self.port}")
        wait_until(self.is_live, "the web process")

    def start_worker(self, name: str = "predict", queue: str = "predict", host: str = "test") -> None:
        self.start(name, *self._celery("worker", "-Q", queue, "-c", "1", "-n", f"{name}@{host}", "-l", "INFO"))

    def wait_for_models(self, name: str = "predict") -> None:
        """Wait until a predict worker has loaded what is deployed: it logs "ready" before that."""
        wait_until(lambda: self.log(name).count("is computed by") >= 2, f"the models of {name}")

    def start_beat(self) -> None:
        self.start("beat", *self._celery("beat", "--pidfile="))

    def start_all(self) -> None:
        self.start_web()
        self.start_worker()
        self.start_worker("default", "default")
        self.start_beat()

    def _celery(self, *arguments: str) -> list[str]:
        return [f"{BIN}/celery", "-A", "portal", *arguments]

    def kill(self, name: str) -> None:
        """Kill a process and all its children at once, as a machine that loses its power would."""
        kill_tree(self.processes.pop(name))

    def pause(self, name: str) -> None:
        """Keep a process and its children from running, until `resume`."""
        for process in [self.processes[name], *self.processes[name].children(recursive=True)]:
            process.suspend()

    def resume(self, name: str) -> None:
        for process in [self.processes[name], *self.processes[name].children(recursive=True)]:
            process.resume()

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        for log in sorted(self.home.glob("*.log")):  # pytest shows it of tests that failed
            print(f"--- the end of {log.name}", log.read_text()[-LOG_CHARACTERS:], sep="\n")
        self.stop_servers()
        shutil.rmtree(self.home, ignore_errors=True)

    def stop_servers(self) -> None:
        self.stop_valkey()
        self.stop_postgres()

    # What tests do with it

    def forget_products(self) -> None:
        """Delete all products and predictions, so that the next test counts its own alone."""
        self.execute("TRUNCATE classifier_prediction CASCADE")

    def wake_workers(self) -> None:
        """Notify the predict workers that rows are due."""
        broker = self.environment["REDIS_URL"].replace("unix://", "redis+socket://", 1)
        with celery.Celery(broker=broker, set_as_current=False) as app:  # the portal's app stays the current one
            app.send_task("classifier.tasks.classify_pending", queue="predict")

    def is_live(self) -> bool:
        return is_ready(f"{self.address}/health/ready/")

    def manage(self, *arguments: str) -> str:
        """Return a command's output; one that hangs is aborted and prints the stacks of its threads."""
        command = [sys.executable, "manage.py", *arguments]
        with subprocess.Popen(command, cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE) as process:
            try:
                output = process.communicate(timeout=PATIENCE)[0]
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)
                raise
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, output)
        return output

    def token(self) -> str:
        """Return a new API token of the demo seller."""
        token = crypto.create_token_string()
        with psycopg.connect(self.environment["DATABASE_URL"]) as connection:
            connection.execute(
                "INSERT INTO knox_authtoken (digest, token_key, user_id, created)"
                " SELECT %s, %s, id, now() FROM portal_user WHERE email = 'seller@example.com'",
                [crypto.hash_token(token), token[:15]],
            )
        return token

    def query(self, sql: str) -> Any:
        with psycopg.connect(self.environment["DATABASE_URL"]) as connection:
            return connection.execute(sql).fetchall()  # type: ignore[call-overload]

    def execute(self, sql: str) -> None:
        with psycopg.connect(self.environment["DATABASE_URL"]) as connection:
            connection.execute(sql)  # type: ignore[call-overload]

    def count(self, where: str) -> int:
        return int(self.query(f"SELECT count(*) FROM classifier_prediction WHERE {where}")[0][0])  # noqa: S608

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()


class Uploader:
    """A seller's program over real HTTP."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {stack.token()}"
        self.photo = product_photo(size=(640, 480))

    def upload(self, title: str, wait: int | None = None, photo: bool = True, timeout: int = 60) -> requests.Response:
        headers = {} if wait is None else {"Prefer": f"wait={wait}"}
        parts: dict[str, Any] = {"title": (None, title), "sku": (None, title)}
        if photo:
            parts["image"] = ("mug.jpg", self.photo)
        address = f"{self.stack.address}/api/v1/predictions"
        return self.session.post(address, files=parts, headers=headers, timeout=timeout)
