"""Define training's Celery tasks: run queued training, answer reports, and prepare what serving needs."""

import logging

from celery import shared_task
from django.conf import settings
from django.core.cache import cache

from classifier.ml.artifact import ArtifactError
from classifier.models import Modality, ModelVersion
from classifier.registry import ensemble_rules
from common.object_storage import StorageDown
from feedback.models import ErasureBatch, MonitoringReport
from training.models import Dataset, TrainingRun
from training.runs import services

# Web processes import this module to queue tasks. What loads torch, pyarrow or datasets is imported in the tasks that
# need it, so that web processes stay small.

log = logging.getLogger(__name__)

RETRY_SECONDS = 6 * 3600


@shared_task(acks_late=False)
def run_training() -> None:
    """Work on one run that is queued or lost its worker. The row is the queue; the message only wakes a worker."""
    from training.runs import pipeline

    if run := TrainingRun.objects.claim():
        pipeline.execute_run(run)


@shared_task
def ring() -> None:
    """Wake a worker for every run whose message was lost or whose worker died."""
    for _run in range(TrainingRun.objects.claimable().count()):
        run_training.delay()


@shared_task
def answer_reports() -> None:
    """Start the runs that monitoring reports ask for."""
    for report in MonitoringReport.objects.filter(asks_retraining=True, answered_at=None).order_by("created_at"):
        services.answer_report(report)


@shared_task(acks_late=False)
def fit_rules() -> None:
    """Fit the ensemble rules that a deployment or a roll-back by hand left open, on the latest dataset."""
    from training.acceptance import ensemble_fitting
    from training.datasets import snapshot_storage

    dataset = Dataset.objects.first()
    if dataset is None:
        return
    for text, image in ensemble_rules.pairs_without_rule():
        # Tried once for each dataset: where it lacks the products for a rule, it lacks them again in a minute.
        if cache.add(f"rule:{text.pk}:{image.pk}:{dataset.pk}", 1, timeout=RETRY_SECONDS):
            ensemble_fitting.fit_missing_rules(text, snapshot_storage.fetch_corpus(dataset))


@shared_task(acks_late=False)
def measure_versions(pks: list[int] | None = None) -> None:
    """Answer the reference set with the named versions, or with those that a person may want to compare soon."""
    from training.acceptance import reference_answers

    versions = ModelVersion.objects.filter(pk__in=pks) if pks else reference_answers.unmeasured_versions()
    for version in versions:
        try:
            reference_answers.measure_version(version, reference_answers.measuring_products(version.modality))
        except (ArtifactError, StorageDown) as error:
            log.warning("%s can't be measured on the reference set: %s", version, error)


@shared_task
def retrain_on_schedule() -> None:
    """Start a run of each modality, as RETRAIN_SCHEDULE says, unless one of that modality is active."""
    if not settings.RETRAIN_SCHEDULE:
        return
    for modality in Modality:
        try:
            services.request_automatic_training(modality, trigger=TrainingRun.Trigger.SCHEDULE)
        except services.TrainingRefused:
            continue


@shared_task(acks_late=False)
def forget_erased() -> None:
    """Delete erased sellers' products from examples and snapshots."""
    from training.datasets import snapshot_erasure

    if ErasureBatch.objects.filter(forgotten_at=None, done_at__isnull=False).exists():
        snapshot_erasure.remove_erased_rows()


@shared_task(acks_late=False)
def write_references() -> None:
    """Store the drift baselines of live versions that were trained on a snapshot."""
    from training.acceptance import drift_baseline

    for text, image, dataset in drift_baseline.pairs_without_baseline():
        # Tried only every few hours: a snapshot with too few products has too few in an hour again.
        if cache.add(f"reference:{text.pk}:{image.pk}:{dataset.pk}", 1, timeout=RETRY_SECONDS):
            drift_baseline.write_baseline(text, image, dataset)
