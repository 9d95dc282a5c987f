"""Train the demo's second text model, and move runs, datasets and versions to the days on which they would be made."""

import contextlib
import csv
import io
import random
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.management import CommandError, call_command

from classifier.models import Deployment, DistributionDetector, Modality, ModelVersion, Variant
from classifier.registry import variants
from portal.demo.catalogue import DrawnProduct
from portal.models import User

SOURCE = "autumn-catalogue"
RECIPE = "head"
CANDIDATE_TRAFFIC = 35  # per cent


def import_catalogue(products: Sequence[DrawnProduct], *, at: datetime) -> None:
    """Import labelled products as `manage.py import_products` does, and make the first dataset of them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{SOURCE}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "title", "description", "category"])
            for number, product in enumerate(products, start=1):
                writer.writerow([f"A-{number:05}", product.title, product.description, product.category])
        _run_quietly("import_products", str(path), source=SOURCE)
    _model("Example").objects.update(created_at=at)
    make_dataset(at=at + timedelta(minutes=4))


def make_dataset(*, at: datetime) -> None:
    """Snapshot the examples and the reviewed answers."""
    known = set(_model("Dataset").objects.values_list("pk", flat=True))
    _run_quietly("make_dataset")
    _model("Dataset").objects.exclude(pk__in=known).update(created_at=at)


def train_candidate(chance: random.Random, *, at: datetime) -> ModelVersion | None:
    """Train a text model in earnest, and try an image model; return the text model if the gate lets it serve.

    The image run ends without a model: too few reviewed products have photos. Both runs stay in the list.
    """
    for number, modality in enumerate(Modality.values):
        known = set(_model("TrainingRun").objects.values_list("pk", flat=True))
        with contextlib.suppress(CommandError):  # the command's way to say that no model went live
            # Trained on the few examples alone it would lose to the champion, which knows more.
            options = {"recipe": RECIPE, "start": "champion", "no_deploy": True, "dataset": _latest_dataset()}
            _run_quietly("retrain", modality, **options)
        for run in _model("TrainingRun").objects.exclude(pk__in=known):
            _set_run_back(run, at + timedelta(minutes=number * chance.uniform(30, 90)))
    return ModelVersion.objects.filter(modality=Modality.TEXT, state="registered", lineage__has_key="run").first()


def start_experiment(candidate: ModelVersion, *, by: User, at: datetime) -> None:
    """Give the candidate a share of the traffic beside the champion."""
    variants.start_test(candidate, weight=CANDIDATE_TRAFFIC, by=by, note="Does it help on our own catalogue?")
    Variant.objects.filter(version=candidate).update(deployed_at=at)
    Deployment.objects.filter(version=candidate).update(created_at=at)


def set_installation_back(*, at: datetime) -> None:
    """Let the models that come with Aisle serve since then."""
    ModelVersion.objects.update(created_at=at)
    Deployment.objects.update(created_at=at)
    Variant.objects.update(deployed_at=at)
    # Only what a version's detector could judge counts as usual or unusual: it must be older than the predictions.
    DistributionDetector.objects.update(created_at=at)


def _run_quietly(command: str, *arguments: str, **options: Any) -> None:
    """Run a command without its report and its progress bars: the demo prints lines of its own."""
    with contextlib.redirect_stderr(io.StringIO()):
        call_command(command, *arguments, stdout=io.StringIO(), **options)


def _latest_dataset() -> str:
    return str(_model("Dataset").objects.latest("pk").pk)


def _set_run_back(run: Any, at: datetime) -> None:
    past = run.created_at - at
    values: dict[str, Any] = {"created_at": at}
    for name in ("started_at", "finished_at", "heartbeat_at"):
        if moment := getattr(run, name):
            values[name] = moment - past
    type(run).objects.filter(pk=run.pk).update(**values)
    if run.version_id:
        finished = values["finished_at"]
        # A version is named by the time of its run.
        ModelVersion.objects.filter(pk=run.version_id).update(created_at=finished, name=f"{RECIPE} {at:%Y-%m-%d %H:%M}")
        DistributionDetector.objects.filter(version=run.version_id).update(created_at=finished)


def _model(name: str) -> Any:
    """Return a model of the training app, which this app must not import."""
    return apps.get_model("training", name)
