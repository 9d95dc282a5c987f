"""A model from a small import never loses categories of the portal, however its run was started."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from classifier.evaluation.category_coverage import coverage_of
from classifier.evaluation.reference_set import compare_on_reference
from classifier.models import Category, EnsembleRule, Modality, ModelVersion, ReferenceProduct
from classifier.registry import deployments, ensemble_rules, traffic
from classifier.serving.batch import predict_now
from feedback.models import MonitoringReport
from portal.models import User
from tests.support.training_runs import carry_out, import_folder, quick_recipe
from training import tasks
from training.fit import recipes
from training.models import TrainingRun
from training.runs import services

pytestmark = pytest.mark.django_db

THINGS = {
    "Electronics": [
        "android tablet",
        "bluetooth headphones",
        "car radio",
        "digital camera",
        "gaming keyboard",
        "drone",
    ],
    "Baby Products": ["baby stroller", "diaper bag", "feeding bottle", "crib mattress", "car seat", "play mat"],
    "Hosiery": ["nylon tights", "knee-high stockings"],
}
MORE = ["black", "compact", "large", "new", "pack of two", "premium", "red", "travel", "white", "mini"]


@pytest.fixture(autouse=True)
def slow_machine(settings: LazySettings) -> None:
    settings.MAX_LATENCY_MS = {"text": 60_000, "image": 60_000}


@pytest.fixture
def small_import(tmp_path: Path) -> None:
    """Some 140 products of two categories of eighteen and of a new one."""
    with (tmp_path / "products.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "title", "category"])
        for name, things in THINGS.items():
            table.writerows([f"{thing}-{more}", f"{thing} {more}", name] for thing in things for more in MORE)
    Category.objects.create(slug="hosiery", name="Hosiery")
    import_folder(tmp_path, source="small")


@pytest.fixture
def few_measured() -> None:
    """A quarter of the measuring titles of each category: what is shown needs no more."""
    measuring = ReferenceProduct.objects.measuring().exclude(title="")
    measuring.exclude(external_id__regex=r"(04|12|20|28|36)$").delete()


def button(client: Client) -> None:
    form = {"modality": "text", "recipe": "head", "trials": "0", "deploys": "on", "ends_test": "on"}
    assert client.post(reverse("admin:training_trainingrun_start"), form).status_code == 302


def schedule(_client: Client) -> None:
    tasks.retrain_on_schedule()


def report(_client: Client) -> None:
    MonitoringReport.objects.create(summary="Accuracy fell.", asks_retraining=True, modality="text")
    tasks.answer_reports()


REQUESTED = ("modality", "recipe", "dataset", "parent", "trials", "processes", "machines", "deploys")


@pytest.mark.parametrize("start", [button, schedule, report])
def test_every_other_way_to_start_a_run_requests_what_the_command_requests(
    start: Callable[[Client], None], scientist: User, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RETRAIN_SCHEDULE = "0 3 * * *"
    monkeypatch.setitem(recipes.DEFAULTS, "text", "head")
    call_command("retrain", "text", recipe="head", background=True, stdout=io.StringIO())
    requested = TrainingRun.objects.values(*REQUESTED).get()
    TrainingRun.objects.all().delete()
    client = Client()
    client.force_login(scientist)
    start(client)
    assert TrainingRun.objects.values(*REQUESTED).get(modality="text") == requested
    assert requested["deploys"]


@pytest.mark.django_db(transaction=True)
def test_what_a_small_import_would_forget_keeps_the_champion(small_import: None, few_measured: None) -> None:
    champion = traffic.current_champion(Modality.TEXT)
    assert champion
    with pytest.raises(CommandError, match="Held back"):
        call_command("retrain", "text", recipe="head", stdout=io.StringIO(), stderr=io.StringIO())
    run = TrainingRun.objects.get()
    assert run.state == TrainingRun.State.HELD, f"{run.message}\n{run.log}"
    assert run.message.startswith("It can't suggest 16 categories that the champion suggests: Appliances; ")
    assert "--from champion" in run.message
    assert "it is less accurate than the champion" in run.message
    assert traffic.current_champion(Modality.TEXT) == champion
    assert run.version
    assert run.version.state == ModelVersion.State.REGISTERED
    assert str(coverage_of(run.version.labels)) == "3 of 19 categories"
    answer, categories = predict_now(title="Acoustic guitar with case", description="", photo=None)
    assert categories[int(answer.probabilities.argmax())].slug == "musical-instruments"
    with pytest.raises(deployments.CategoryLoss, match="16 categories"):
        deployments.deploy_version(run.version)


def test_continuing_from_the_champion_keeps_its_categories_and_goes_live(small_import: None) -> None:
    champion = traffic.current_champion(Modality.TEXT)
    assert champion
    run = carry_out(services.request_training(modality=Modality.TEXT, recipe=quick_recipe(), parent=champion))
    assert run.state == TrainingRun.State.DEPLOYED, f"{run.message}\n{run.log}"
    version = run.version
    assert version
    assert set(version.labels) == {*champion.labels, "hosiery"}
    found = compare_on_reference(champion, version)
    assert found
    assert found.n >= 360
    assert found.accuracy.second >= 0.98 * found.accuracy.first
    lacking = version.gate["lacking"]
    assert len(lacking["categories"]) == 16
    assert "It keeps what the new data lacks: on 320 reference products of 16 categories" in run.message
    # The pair had no products to fit a rule on: sellers keep their percentages by the champion's rule.
    rule = EnsembleRule.objects.get(text_version=version)
    assert rule.carried_over_from
    assert rule.rule().calibrated
    assert (
        version,
        rule.image_version,
    ) in ensemble_rules.pairs_without_rule()  # a rule of its own is still to be fitted
    answer, categories = predict_now(title="nylon tights white", description="", photo=None)
    assert categories[int(answer.probabilities.argmax())].slug == "hosiery"
