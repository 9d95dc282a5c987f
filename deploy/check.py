"""Render every overlay with kustomize and check it against the schemas of Kubernetes and KEDA, without a cluster.

And docker-compose.yml: that services can be scaled, as nothing in it is there only once by name or port. In both, a
Valkey asks for a password, and gets it in a way that doesn't show in a list of processes.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pydantic
import yaml
from cloudcoil.models.keda import v1alpha1

HERE = Path(__file__).parent
KUBECTL = Path(sys.executable).with_name("kubectl")
KUBERNETES = "1.32"  # the oldest release that is still supported somewhere; newer ones know the same fields
SCALED_IN_COMPOSE = ("predict", "default")


def main() -> None:
    problems: list[str] = []
    for overlay in sorted((HERE / "kubernetes" / "overlays").iterdir()):
        documents = render(overlay)
        problems += [f"{overlay.name}: {problem}" for document in documents for problem in wrong(document)]
        problems += [f"{overlay.name}: {problem}" for problem in loose_ends(documents)]
        problems += [f"{overlay.name}: {problem}" for d in documents for problem in valkey_problems(containers(d))]
        print(f"{overlay.name}: {len(documents)} objects")
    problems += compose_problems(yaml.safe_load((HERE.parent / "docker-compose.yml").read_text()))
    sys.exit("\n".join(problems) or None)


def render(overlay: Path) -> list[dict[str, Any]]:
    text = subprocess.run([KUBECTL, "kustomize", overlay], check=True, capture_output=True, text=True).stdout
    return list(yaml.safe_load_all(text))


def wrong(document: dict[str, Any]) -> list[str]:
    """Return the errors of a document against its schema."""
    name = f"{document['kind']} {document['metadata']['name']}"
    try:
        if document["apiVersion"].startswith("keda.sh/"):
            known: Any = getattr(v1alpha1, document["kind"])
            unknown = lost(document, known.model_validate(document).model_dump(by_alias=True))
            return [f"{name}: no such field: {field}" for field in unknown]
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except (pydantic.ValidationError, kubernetes_validate.ValidationError) as error:
        return [f"{name}: {error}"]
    return []


def lost(given: Any, understood: Any, path: str = "") -> list[str]:
    """Return the paths of fields that a model ignored."""
    if isinstance(given, dict):
        if not isinstance(understood, dict):
            return [path]
        return [
            field
            for key, value in given.items()
            for field in (lost(value, understood[key], f"{path}.{key}") if key in understood else [f"{path}.{key}"])
        ]
    if isinstance(given, list) and isinstance(understood, list):
        return [f for one, other in zip(given, understood, strict=True) for f in lost(one, other, path)]
    return []


def loose_ends(documents: list[dict[str, Any]]) -> list[str]:
    """Return references to missing objects, and deployments with both a fixed size and an autoscaler."""
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    problems = []
    for document in documents:
        kind, spec = document["kind"], document.get("spec", {})
        if kind == "HorizontalPodAutoscaler":
            problems.append("a HorizontalPodAutoscaler fights the one that KEDA makes")
        if kind == "ScaledObject":
            target = spec["scaleTargetRef"]["name"]
            if ("Deployment", target) not in names:
                problems.append(f"ScaledObject for {target}, which isn't there")
            problems += [
                f"{other['metadata']['name']} sets replicas, and so does KEDA"
                for other in documents
                if other["kind"] == "Deployment" and other["metadata"]["name"] == target and "replicas" in other["spec"]
            ]
        if kind == "PodDisruptionBudget" and not any(
            other["kind"] == "Deployment" and other["spec"]["selector"] == spec["selector"] for other in documents
        ):
            problems.append(f"PodDisruptionBudget {document['metadata']['name']} guards nothing")
    return problems


def containers(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a document's containers by name."""
    pod = document.get("spec", {}).get("template", {}).get("spec", {})
    return {container["name"]: container for container in pod.get("containers", [])}


def valkey_problems(services: dict[str, dict[str, Any]]) -> list[str]:
    """Return the containers that run a Valkey without a password, or with one that all processes can read."""
    problems = []
    for name, service in services.items():
        if not service.get("image", "").startswith(("valkey/", "redis")):
            continue
        command = service.get("command", [])
        text = command if isinstance(command, str) else "\n".join(command)
        if "requirepass" not in text:
            problems.append(f"{name} asks for no password")
        if "--requirepass" in text:
            problems.append(f"{name} has its password on the command line")
        if "-a " in str(service.get("healthcheck", "")) + str(service.get("readinessProbe", "")):
            problems.append(f"{name}'s health check has the password on the command line")
    return problems


def compose_problems(compose: dict[str, Any]) -> list[str]:
    services = compose["services"]
    problems = [
        f"{name} can't be scaled because of {key}"
        for name in SCALED_IN_COMPOSE
        for key in ("container_name", "ports", "hostname")
        if key in services[name]
    ]
    problems += valkey_problems(services)
    for name, service in services.items():
        url = service.get("environment", {}).get("REDIS_URL", "")
        if url.startswith("redis") and "@" not in url:
            problems.append(f"{name} has no password in REDIS_URL")
    return [f"docker-compose.yml: {problem}" for problem in problems]


if __name__ == "__main__":
    main()
