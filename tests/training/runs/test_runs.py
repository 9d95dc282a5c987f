"""Requests for runs: services, tasks, the command and the admin's pages. test_pipeline executes runs."""

import io
import socket
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from classifier.models import Modality
from classifier.registry import traffic
from feedback.models import MonitoringReport
from portal.models import User
from tests.support.training_runs import import_folder, offer_only_made_up, quick_recipe, write_products
from training import tasks
from training.admin.runs import loss_curves
from training.fit.stage_codes import RunStage
from training.models import TrainingRun
from training.runs import pipeline, services
from training.runs.stage_labels import STAGE_LABELS, stage_label

pytestmark = pytest.mark.django_db

RUNS = "admin:training_trainingrun_changelist"


def queue(modality: Modality = Modality.TEXT) -> TrainingRun:
    return services.request_training(modality=modality, recipe=quick_recipe(modality))


def test_one_run_of_a_modality_at_a_time() -> None:
    queue()
    with pytest.raises(services.TrainingRefused, match="Wait for it, or cancel it"):
        queue()
    queue(Modality.IMAGE)
    assert TrainingRun.objects.active().count() == 2


def test_a_recipe_or_a_parent_of_the_other_modality_is_refused() -> None:
    with pytest.raises(services.TrainingRefused):
        services.request_training(modality=Modality.TEXT, recipe=quick_recipe(Modality.IMAGE))
    with pytest.raises(services.TrainingRefused):
        services.request_training(
            modality=Modality.TEXT, recipe=quick_recipe(), parent=traffic.current_champion(Modality.IMAGE)
        )


def test_a_queued_run_is_cancelled_at_once_and_an_ended_one_is_left() -> None:
    run = queue()
    assert services.cancel_training(run)
    run.refresh_from_db()
    assert run.state == TrainingRun.State.CANCELLED
    assert not services.cancel_training(run)


def test_a_run_is_claimed_once_until_its_worker_falls_silent(settings: LazySettings) -> None:
    run = queue()
    first = TrainingRun.objects.claim()
    assert first is not None
    assert first.pk == run.pk
    assert TrainingRun.objects.claim() is None
    silent = timezone.now() - timedelta(seconds=settings.TRAINING_LEASE_SECONDS + 1)
    TrainingRun.objects.filter(pk=run.pk).update(heartbeat_at=silent)
    second = TrainingRun.objects.claim()
    assert second is not None
    assert second.attempts == 2
    assert not TrainingRun.objects.leased_as(first).exists()
    assert TrainingRun.objects.leased_as(second).exists()


def test_a_report_that_asks_for_retraining_starts_runs_once() -> None:
    report = MonitoringReport.objects.create(summary="Accuracy fell to 61 %.", asks_retraining=True)
    MonitoringReport.objects.create(summary="All is well.")
    tasks.answer_reports()
    tasks.answer_reports()
    runs = TrainingRun.objects.all()
    assert {run.modality for run in runs} == {"text", "image"}
    assert {run.report for run in runs} == {report}
    report.refresh_from_db()
    assert report.answered_at is not None
    assert "started" in report.answer


def test_a_report_records_that_a_run_is_active_already() -> None:
    queue()
    report = MonitoringReport.objects.create(summary="Drift.", modality="text", asks_retraining=True)
    tasks.answer_reports()
    report.refresh_from_db()
    assert "cancel it" in report.answer


def test_the_schedule_starts_runs_only_when_it_is_set(settings: LazySettings) -> None:
    settings.RETRAIN_SCHEDULE = ""
    tasks.retrain_on_schedule()
    assert not TrainingRun.objects.exists()
    settings.RETRAIN_SCHEDULE = "0 3 * * 0"
    tasks.retrain_on_schedule()
    tasks.retrain_on_schedule()
    assert TrainingRun.objects.filter(trigger=TrainingRun.Trigger.SCHEDULE).count() == 2


def test_a_dry_run_says_what_would_happen_and_starts_nothing() -> None:
    output = io.StringIO()
    call_command("retrain", "all", dry_run=True, stdout=output)
    assert "champion: " in output.getvalue()
    assert "ends an experiment: False" in output.getvalue()
    assert "Nothing was started." in output.getvalue()
    assert not TrainingRun.objects.exists()


@pytest.mark.parametrize(
    "arguments",
    [["sound"], ["text", "--recipe", "magic"], ["text", "--dataset", "12345"], ["text", "--from", "nobody"],
     ["text", "--nproc", "0"], ["text", "--no-deploy", "--end-test"], ["text", "--resume"], ["text", "--nnodes", "2"]],
)  # fmt: skip
def test_the_command_refuses_what_it_can_not_do_with_a_sentence(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("retrain", *arguments, stderr=io.StringIO())
    assert not TrainingRun.objects.exists()


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_command_trains_both_models_side_by_side(
    committed_db: None, tmp_path: Path, settings: LazySettings
) -> None:
    settings.MIN_ACCURACY, settings.MAX_LATENCY_MS = {"text": 0.6, "image": 0.1}, {"text": 60_000, "image": 60_000}
    offer_only_made_up()
    import_folder(write_products(tmp_path / "shop", count=150, photos=90))
    output = io.StringIO()
    call_command("retrain", "all", recipe="head", stdout=output)
    assert output.getvalue().count("Deployed") == 2, output.getvalue()
    assert {run.state for run in TrainingRun.objects.all()} == {TrainingRun.State.DEPLOYED}


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_tuning_keeps_its_trials_in_the_database_and_another_process_can_take_some(
    committed_db: None, tmp_path: Path, settings: LazySettings
) -> None:
    settings.MIN_ACCURACY, settings.MAX_LATENCY_MS = {"text": 0.6, "image": 0.1}, {"text": 60_000, "image": 60_000}
    offer_only_made_up()
    import_folder(write_products(tmp_path / "shop", count=150))
    output = io.StringIO()
    call_command("retrain", "text", recipe="head", tune=2, stdout=output)
    run = TrainingRun.objects.get()
    assert run.state == TrainingRun.State.DEPLOYED, run.log
    assert f"join_training {run.pk}" in output.getvalue()
    assert "Best of 2 trials" in run.log
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM optuna.trials WHERE state = 'COMPLETE'")
        assert cursor.fetchone()[0] >= 1
    with pytest.raises(CommandError, match="no such active run"):
        call_command("join_training", str(run.pk))


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_two_machines_make_one_model(committed_db: None, tmp_path: Path, settings: LazySettings) -> None:
    settings.MIN_ACCURACY, settings.MAX_LATENCY_MS = {"text": 0.6, "image": 0.1}, {"text": 60_000, "image": 60_000}
    offer_only_made_up()
    import_folder(write_products(tmp_path / "shop", count=150))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        master = f"127.0.0.1:{probe.getsockname()[1]}"
    run = services.request_training(modality=Modality.TEXT, recipe=quick_recipe(), machines=2, master=master)
    joined = threading.Thread(target=_join, args=(run,))
    joined.start()
    claimed = TrainingRun.objects.claim(run.pk)
    assert claimed is not None
    pipeline.execute_run(claimed)
    joined.join()
    run.refresh_from_db()
    assert run.state == TrainingRun.State.DEPLOYED, run.log


def _join(run: TrainingRun) -> None:
    try:
        call_command("join_training", str(run.pk), node_rank=1)
    finally:
        connection.close()


def test_a_scientist_starts_and_cancels_a_run_in_the_admin(client: Client, scientist: User) -> None:
    client.force_login(scientist)
    assert "start" in client.get(reverse(RUNS)).content.decode()
    form = client.get(reverse("admin:training_trainingrun_start"))
    assert form.status_code == 200
    answer = client.post(
        reverse("admin:training_trainingrun_start"),
        {"modality": "text", "recipe": "head", "dataset": "", "trials": "0", "deploys": "on"},
        follow=True,
    )
    run = TrainingRun.objects.get()
    assert run.requested_by == scientist
    assert run.trigger == TrainingRun.Trigger.ADMIN
    assert "Queued" in answer.content.decode()
    refused = client.post(
        reverse("admin:training_trainingrun_start"),
        {"modality": "text", "recipe": "head", "dataset": "", "trials": "0"},
    )
    assert "Wait for it, or cancel it" in refused.content.decode()
    assert client.get(reverse("admin:training_trainingrun_cancel", args=[run.pk])).status_code == 405
    client.post(reverse("admin:training_trainingrun_cancel", args=[run.pk]))
    run.refresh_from_db()
    assert run.state == TrainingRun.State.CANCELLED


@pytest.mark.parametrize("may", [True, False])
def test_command_and_admin_let_a_run_end_an_experiment_only_on_request(
    client: Client, scientist: User, may: bool
) -> None:
    call_command("retrain", "text", "--background", *(["--end-test"] if may else []), stdout=io.StringIO())
    client.force_login(scientist)
    answers = {"modality": "image", "recipe": "head", "trials": "0", "deploys": "on"} | (
        {"ends_test": "on"} if may else {}
    )
    client.post(reverse("admin:training_trainingrun_start"), answers)
    assert {run.modality: run.ends_test for run in TrainingRun.objects.all()} == {"text": may, "image": may}


def test_a_wrong_form_keeps_what_was_chosen(client: Client, scientist: User) -> None:
    client.force_login(scientist)
    answer = client.post(
        reverse("admin:training_trainingrun_start"),
        {"modality": "image", "recipe": "head", "dataset": "", "trials": "-3"},
    )
    assert answer.status_code == 200
    assert not TrainingRun.objects.exists()
    assert '<option value="image" selected' in answer.content.decode()


def test_who_may_only_look_can_not_start_or_cancel(client: Client, scientist: User) -> None:
    run = queue()
    scientist.groups.clear()
    from django.contrib.auth.models import Permission

    scientist.user_permissions.add(Permission.objects.get(codename="view_trainingrun"))
    client.force_login(scientist)
    assert client.get(reverse("admin:training_trainingrun_change", args=[run.pk])).status_code == 200
    assert client.get(reverse("admin:training_trainingrun_start")).status_code == 403
    assert client.post(reverse("admin:training_trainingrun_cancel", args=[run.pk])).status_code == 403
    run.refresh_from_db()
    assert run.state == TrainingRun.State.QUEUED


def test_the_page_of_a_run_shows_its_progress_and_its_curves(client: Client, scientist: User) -> None:
    run = queue()
    curve = [{"stage": "text_head", "step": n, "loss": 1 / (n + 1)} for n in range(20)]
    TrainingRun.objects.filter(pk=run.pk).update(
        state="running", stage="text_head", step=20, total=80, loss=0.05, rate=310, eta_seconds=75,
        curve=[*curve, {"stage": "text_head", "step": 20, "validation_loss": 0.4}], log="08:00:00 it goes well",
    )  # fmt: skip
    client.force_login(scientist)
    for address in ("admin:training_trainingrun_change", "admin:training_trainingrun_progress"):
        page = client.get(reverse(address, args=[run.pk])).content.decode()
        assert "Text head" in page
        assert "20 of 80" in page
        assert "0:01:15" in page
        assert "<svg" in page
        assert "it goes well" in page


def test_every_stage_has_a_label_and_an_older_versions_words_are_read() -> None:
    assert set(STAGE_LABELS) == set(RunStage)
    old, new = ([{"stage": stage, "step": 1, "loss": 0.5}] for stage in ("text head", "text_head"))
    assert loss_curves([*old, *new]) == loss_curves([*new, *new])
    assert stage_label("Measuring on the test part") == "Measuring on the test part"
