"""deploy/check.py passes what is there, and would notice what is wrong."""

import importlib.util
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

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


def find(documents: list[dict[str, Any]], kind: str, name: str = "aisle-predict") -> dict[str, Any]:
    return deepcopy(next(d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name))


def test_all_overlays_pass() -> None:
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


def test_two_hands_on_one_number_of_replicas_are_noticed(check: Any, small: list[dict[str, Any]]) -> None:
    assert not check.loose_ends(small)
    for document in (documents := deepcopy(small)):
        if document["metadata"]["name"] == "aisle-predict" and document["kind"] == "Deployment":
            document["spec"]["replicas"] = 3
    assert check.loose_ends(documents) == ["aisle-predict sets replicas, and so does KEDA"]


def test_the_scaler_counts_by_a_partial_index(check: Any, small: list[dict[str, Any]], db: None) -> None:
    from django.db import connection

    query = find(small, "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {query}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    # Which of the two is cheaper hangs on the rows there are.
    assert any(name in plan for name in ("prediction_due", "prediction_unanswered")), plan


def test_a_compose_service_that_can_be_there_only_once_is_noticed(check: Any) -> None:
    services: dict[str, Any] = {"predict": {}, "default": {"container_name": "default"}}
    assert check.compose_problems({"services": services}) == [
        "docker-compose.yml: default can't be scaled because of container_name"
    ]
