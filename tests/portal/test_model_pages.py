"""Check the staff's pages of model versions: reports, comparison, deployment and roll-back."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import Permission
from django.core.files.storage import storages
from django.test import Client
from django.urls import reverse

from classifier.evaluation.category_coverage import active_categories
from classifier.evaluation.reference_set import offer_hash
from classifier.ml import artifact
from classifier.models import Deployment, EnsembleRule, ModelVersion, ReferenceAnswer, ReferenceProduct
from classifier.registry import deployments, traffic, variants
from portal.celery import app as celery_app
from portal.models import User
from tests.support.accounts import logged_in_client
from tests.support.model_versions import live_version_name, register_variant
from training import tasks
from training.acceptance.metrics import compute_metrics, count_confusions, metrics_by_category, reliability_bins


@pytest.fixture
def candidate(db: None, tmp_path: Path) -> ModelVersion:
    """A version with every figure that training records."""
    version = register_variant(tmp_path / "candidate", "# The card\n\n<b>Read</b> me.")
    labels = json.loads((tmp_path / "candidate" / "config.json").read_text())["labels"]
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(len(labels), 0.3), 400).astype(np.float32)
    targets = np.where(random.random(400) < 0.6, probabilities.argmax(axis=1), random.integers(0, len(labels), 400))
    metrics = {
        **compute_metrics(probabilities, targets),
        "ece_before": 0.2,
        "latency_ms": 12.0,
        "size_bytes": 7_000_000,
        "classes": metrics_by_category(probabilities, targets, labels),
        "confusion": count_confusions(probabilities, targets, labels),
        "reliability": reliability_bins(probabilities, targets),
        "reliability_before": reliability_bins(probabilities, targets),
        "sources": {"shop": compute_metrics(probabilities, targets)},
    }
    lineage = {
        "run": "0b1e7f0e-0000-4000-8000-000000000000",
        "dataset": "ab" * 32,
        "dataset_number": 3,
        "recipe": {"name": "lora", "epochs": 3},
        "code": "8ab370b",
    }
    ModelVersion.objects.filter(pk=version.pk).update(metrics=metrics, lineage=lineage, reason="Accuracy 60 %: fine.")
    version.refresh_from_db()
    return version


def address(verb: str, *args: object) -> str:
    return reverse(f"admin:classifier_modelversion_{verb}", args=args)


def test_a_report_shows_figures_charts_lineage_and_the_card(scientist: User, candidate: ModelVersion) -> None:
    page = logged_in_client(scientist).get(address("change", candidate.pk)).content.decode()
    for words in (
        "Accuracy 60 %: fine.", "20.0%", "12 ms", "7.0 MB", "lora", "8ab370b", "Most frequent confusions",
        "before temperature", "Compare with the champion", "none yet", "&lt;b&gt;Read&lt;/b&gt; me.",
        "18 of 18 categories",
    ):  # fmt: skip
        assert words in page, words
    assert page.count("<svg") >= 2


def test_the_report_of_a_version_without_figures_says_what_was_not_recorded(scientist: User) -> None:
    version = ModelVersion.objects.get(modality="text")
    ModelVersion.objects.filter(pk=version.pk).update(metrics={"accuracy": 0.819})
    page = logged_in_client(scientist).get(address("change", version.pk)).content.decode()
    assert "81.9%" in page
    assert page.count("Not recorded for this version.") == 3
    assert "not recorded" in page


def test_two_versions_are_shown_side_by_side(scientist: User, candidate: ModelVersion) -> None:
    client, starter = logged_in_client(scientist), ModelVersion.objects.get(name=live_version_name())
    page = client.get(address("compare"), {"first": starter.pk, "second": candidate.pk}).content.decode()
    assert "different test products" in page and "not been measured on the same products" in page
    assert "aisle-better" not in page and "aisle-worse" not in page
    image = ModelVersion.objects.get(modality="image")
    page = client.get(address("compare"), {"first": image.pk, "second": candidate.pk}).content.decode()
    assert "choose two of the same kind" in page
    for nonsense in ({}, {"first": "x", "second": "9" * 30}):
        assert client.get(address("compare"), nonsense).status_code == 200


def answer_reference(version: ModelVersion, right: int) -> None:
    """Store the version's answers to 100 reference products, the first `right` of them correct."""
    offer = offer_hash(active_categories())
    for place, product in enumerate(ReferenceProduct.objects.counted("text")[:100]):
        ReferenceAnswer.objects.create(
            version=version,
            product=product,
            first_choice="beauty",
            confidence=0.9,
            probability=0.9 if place < right else 0.1,
            rank=0 if place < right else 3,
            offer=offer,
        )


def test_only_differences_beyond_their_interval_are_coloured(scientist: User, candidate: ModelVersion) -> None:
    client, starter = logged_in_client(scientist), ModelVersion.objects.get(name=live_version_name())
    answer_reference(starter, 80)
    answer_reference(candidate, 81)
    addresses = [
        (address("compare"), {"first": starter.pk, "second": candidate.pk}),
        (address("deploy", candidate.pk), {}),
        (address("change", candidate.pk), {}),
    ]
    for target, query in addresses:
        page = client.get(target, query).content.decode()
        assert "the same 100 products for both" in page
        assert "+1.0 may be chance" in page
        assert "aisle-better" not in page and "aisle-worse" not in page
    ReferenceAnswer.objects.filter(version=candidate).delete()
    answer_reference(candidate, 60)
    for target, query in addresses:
        assert "-20.0 worse" in client.get(target, query).content.decode()


def test_a_deployment_that_loses_categories_needs_a_typed_confirmation(scientist: User, tmp_path: Path) -> None:
    starter = ModelVersion.objects.get(name=live_version_name())
    narrow = register_variant(tmp_path / "narrow", "Narrow.")
    ModelVersion.objects.filter(pk=narrow.pk).update(labels=["beauty", "electronics"])
    client = logged_in_client(scientist)
    for target in (address("deploy", narrow.pk), reverse("admin:classifier_variant_test", args=[narrow.pk])):
        page = client.get(target).content.decode()
        assert "2 of 18 categories" in page
        assert page.index("Musical Instruments</li>") < page.index("2 of 18 categories")  # what is lost stands first
        assert "Type <strong>lose 16</strong> to go on" in page
        for typed in ("", "lose", "lose 15", "yes"):
            answer = client.post(target, {"typed": typed, "note": "kept note", "share": "20"})
            assert answer.status_code == 200
            assert "Nothing was changed" in answer.content.decode()
            assert "kept note" in answer.content.decode()
        assert [variant.version for variant in traffic.live_variants("text")] == [starter]
    client.post(address("deploy", narrow.pk), {"typed": " Lose  16 ", "note": "meant so"})
    assert live_version_name() == "narrow"
    assert "2 of 18 categories" in client.get(reverse("admin:classifier_modelversion_changelist")).content.decode()
    client.post(address("rollback", "text"))
    assert live_version_name() == starter.name


def test_versions_are_measured_on_the_same_products_on_request(
    scientist: User, candidate: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    starter = ModelVersion.objects.get(name=live_version_name())
    client = logged_in_client(scientist)
    target = reverse("admin:reference_measure", args=[f"{starter.pk}-{candidate.pk}"])
    assert target in client.get(address("deploy", candidate.pk)).content.decode()
    assert "360" in client.get(target).content.decode()
    ReferenceProduct.objects.exclude(category__slug="beauty").delete()
    monkeypatch.setattr(tasks.measure_versions, "delay", tasks.measure_versions)
    page = client.post(target, follow=True).content.decode()
    assert "the same 20 products for both" in page
    assert "no difference" in page  # the candidate is a copy of the starter
    image = ModelVersion.objects.get(modality="image")
    for nonsense in ("x", "0", f"{starter.pk}", f"{starter.pk}-999999", f"{starter.pk}-{image.pk}"):
        assert client.get(reverse("admin:reference_measure", args=[nonsense])).status_code == 404
    scientist.groups.clear()
    assert client.post(target).status_code in (302, 403)


def test_data_scientists_deploy_and_roll_back_after_confirming(scientist: User, candidate: ModelVersion) -> None:
    client, before = logged_in_client(scientist), live_version_name()
    assert "Live now" in client.get(address("deploy", candidate.pk)).content.decode()
    assert live_version_name() == before
    page = client.post(address("deploy", candidate.pk), {"note": "better"}, follow=True).content.decode()
    assert "is live" in page and "Roll back to" in page
    latest = Deployment.objects.first()
    assert latest is not None
    assert (latest.version, latest.deployed_by, latest.note) == (candidate, scientist, "better")

    assert before in client.get(address("rollback", "text")).content.decode()
    client.post(address("rollback", "text"))
    assert live_version_name() == before
    assert "nothing to roll back to" in client.post(address("rollback", "text"), follow=True).content.decode()


def test_deployment_needs_the_permission(scientist: User, browser: Client, candidate: ModelVersion) -> None:
    scientist.groups.clear()
    scientist.user_permissions.add(Permission.objects.get(codename="view_modelversion"))
    before = live_version_name()
    for client in (logged_in_client(scientist), browser):
        for method in ("get", "post"):
            for target in (address("deploy", candidate.pk), address("rollback", "text")):
                assert getattr(client, method)(target).status_code in (302, 403)
    assert live_version_name() == before
    page = logged_in_client(scientist).get(address("change", candidate.pk)).content.decode()
    assert address("deploy", candidate.pk) not in page


def test_a_damaged_version_is_refused_with_a_message(scientist: User, candidate: ModelVersion) -> None:
    before = live_version_name()
    storages["models"].delete(f"{candidate.path}/{artifact.WEIGHTS}")
    page = logged_in_client(scientist).post(address("deploy", candidate.pk), follow=True).content.decode()
    assert "Nothing was changed." in page
    assert live_version_name() == before


def test_a_rejected_version_offers_no_deployment(scientist: User, candidate: ModelVersion) -> None:
    ModelVersion.objects.filter(pk=candidate.pk).update(state="rejected")
    page = logged_in_client(scientist).get(address("change", candidate.pk)).content.decode()
    assert "Rejected" in page and address("deploy", candidate.pk) not in page
    assert "Nothing was changed." in (
        logged_in_client(scientist).post(address("deploy", candidate.pk), follow=True).content.decode()
    )


def test_deployments_and_rules_have_pages(scientist: User, candidate: ModelVersion) -> None:
    client = logged_in_client(scientist)
    deployments.deploy_version(candidate, by=scientist)
    assert "candidate" in client.get(reverse("admin:classifier_deployment_changelist")).content.decode()
    carried = EnsembleRule.objects.get(text_version=candidate)
    page = client.get(reverse("admin:classifier_ensemblerule_change", args=[carried.pk])).content.decode()
    assert "Carried over from text starter" in page
    rule = EnsembleRule.objects.exclude(pk=carried.pk).get()
    page = client.get(reverse("admin:classifier_ensemblerule_change", args=[rule.pk])).content.decode()
    assert f"{100 * rule.metrics['test'][rule.kind]['accuracy']:.1f}%" in page
    figures = {"n": 9, "accuracy": 0.9, "top5": 1.0, "macro_f1": 0.8, "log_loss": 0.4, "ece": 0.02}
    metrics = {"validation": {"log-pool": figures, "accuracy-weighted": figures}, "test": {"text": figures}}
    EnsembleRule.objects.update(kind="log-pool", metrics=metrics)
    page = client.get(reverse("admin:classifier_ensemblerule_change", args=[rule.pk])).content.decode()
    assert "in use" in page and "Text alone" in page


def test_categories_of_any_live_version_count_as_lost_during_an_experiment(scientist: User, tmp_path: Path) -> None:
    """The page asks for what the guard asks for: else a version could be refused without a way to accept it."""
    champion, tested, third = (register_variant(tmp_path / name, name) for name in ("champion", "tested", "third"))
    ModelVersion.objects.filter(pk=champion.pk).update(labels=["beauty", "electronics"])
    ModelVersion.objects.filter(pk=third.pk).update(labels=["beauty", "electronics"])
    champion.refresh_from_db()
    deployments.deploy_version(champion, accepts_loss=True)
    variants.start_test(tested, weight=10)
    client = logged_in_client(scientist)
    page = client.get(address("deploy", third.pk)).content.decode()
    assert "Type <strong>lose 16</strong> to go on" in page
    client.post(address("deploy", third.pk), {"typed": "lose 16"})
    assert live_version_name() == "third"


def test_a_measurement_that_cannot_be_queued_is_reported(
    scientist: User, candidate: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    starter = ModelVersion.objects.get(name=live_version_name())
    with celery_app.connection_for_write("redis://127.0.0.1:1/0") as nowhere:
        monkeypatch.setattr(tasks.measure_versions, "delay", partial(send, nowhere))
        target = reverse("admin:reference_measure", args=[f"{starter.pk}-{candidate.pk}"])
        page = logged_in_client(scientist).post(target, follow=True).content.decode()
    assert "The queue of the workers can&#x27;t be reached" in page


def send(connection: Any, numbers: list[int]) -> None:
    """Send the task to a broker that isn't there, without trying again."""
    tasks.measure_versions.apply_async(args=[numbers], connection=connection, retry=False)
