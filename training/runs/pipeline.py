"""Execute a claimed training run: dataset, fit, evaluation, gate, registration and deployment."""

import errno
import logging
import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import DatabaseError
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.evaluation.category_coverage import coverage_of
from classifier.ml import artifact
from classifier.models import Decision, DistributionDetector, ModelVersion, ReferenceAnswer
from classifier.registry import deployments, traffic, versions
from common.object_storage import StorageDown
from training.acceptance import (
    candidate_evaluation,
    comparison,
    detector_fitting,
    engine_agreement,
    ensemble_fitting,
    reference_answers,
)
from training.acceptance.gate import AcceptanceLimits, Verdict, decide_on_candidate
from training.datasets import labelled_products, reference_set, snapshot_storage, snapshots
from training.datasets.corpus import CorpusError
from training.fit.stage_codes import RunStage
from training.models import Dataset, TrainingRun
from training.runs.subprocess_runner import (
    Cancelled,
    FitFailed,
    LeaseLost,
    RunMonitor,
    renew_connection,
    run_fit_process,
    send_heartbeats,
)
from training.runs.workspace import code_version, labels_to_learn, remove_old_folders, work_folder, write_job

if TYPE_CHECKING:
    from training.datasets.corpus import Corpus

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
RETRY_PAUSE = timedelta(seconds=15)


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its state, a sentence, and the version that came of it, if any."""

    state: TrainingRun.State
    message: str
    version: ModelVersion | None = None


def execute_run(run: TrainingRun) -> None:
    """Do the work of a claimed run and record its outcome, also that of any error, on its row."""
    monitor = RunMonitor(run, work_folder(run), curve=list(run.curve), lines=run.log.splitlines())
    if run.attempts > 1:
        monitor.log_line(_("Attempt %(number)d: continuing from the last checkpoint.") % {"number": run.attempts})
    try:
        if run.attempts > MAX_ATTEMPTS:
            raise FitFailed(
                _("Its worker was killed several times, probably because the machine ran out of memory."),
                permanent=True,
            )
        with send_heartbeats(run):
            # While the heartbeat runs: removing gigabytes may take longer than the lease.
            remove_old_folders()
            monitor.folder.mkdir(parents=True, exist_ok=True)
            outcome = _do_work(run, monitor)
    except LeaseLost:
        # Nothing is written: the row belongs to the other worker now.
        log.warning("Training run %s was taken over by another worker.", run.pk)
        return
    except Cancelled:
        outcome = Outcome(TrainingRun.State.CANCELLED, _("Cancelled. The live model is unchanged."))
    except (FitFailed, StorageDown, DatabaseError) as error:
        # An outage is temporary, and only a FitFailed may be permanent.
        if not getattr(error, "permanent", False) and run.attempts < MAX_ATTEMPTS:
            _try_again(run, monitor, str(error))
            return
        outcome = _failed(str(error))
    except (CorpusError, artifact.ArtifactError, deployments.NotDeployable) as error:
        outcome = _failed(str(error))
    except OSError as error:
        outcome = _failed(_("The disk is full.") if error.errno == errno.ENOSPC else str(error))
    except Exception as error:  # noqa: BLE001 - any error must reach the run's row, and the worker continues
        monitor.log_line(traceback.format_exc())
        outcome = _failed(f"{type(error).__name__}: {error}.")
    _finish(run, monitor, outcome)


def _do_work(run: TrainingRun, monitor: RunMonitor) -> Outcome:
    dataset, corpus = _prepare_dataset(run, monitor)
    # An earlier attempt may have registered the version before its worker was killed.
    version = ModelVersion.objects.filter(lineage__run=str(run.pk)).first() or _make_version(
        run, monitor, dataset, corpus
    )
    if not TrainingRun.objects.leased_as(run).update(version=version):
        raise LeaseLost
    if version.state == ModelVersion.State.REJECTED:
        return Outcome(TrainingRun.State.REJECTED, version.reason, version)
    return _go_live(run, monitor, version, corpus)


def _make_version(run: TrainingRun, monitor: RunMonitor, dataset: Dataset, corpus: "Corpus") -> ModelVersion:
    """Fit a model, evaluate it, and register it with the gate's verdict."""
    labels = labels_to_learn(run, corpus)
    if left_out := sorted(set(corpus.labels) - set(labels)):
        monitor.log_line(
            _("Left out, with too few training products or no categories any more: %(labels)s")
            % {"labels": ", ".join(left_out)}
        )
    write_job(run, monitor.folder, corpus, labels)
    run_fit_process(monitor)
    monitor.start_stage(RunStage.MEASURE_TEST)
    fitted = candidate_evaluation.read_fitted_model(monitor.folder, run.modality)
    champion = traffic.current_champion(run.modality)
    metrics, card = candidate_evaluation.evaluate_candidate(fitted, corpus)
    verdict, answers = _judge(monitor, fitted, metrics, corpus, champion, labels)
    for reason in verdict.reasons:
        monitor.log_line(reason)
    monitor.start_stage(RunStage.REGISTER)
    candidate_evaluation.seal_artifact(fitted, metrics, card)
    version = versions.register_version(
        fitted.folder,
        name=f"{run.recipe['name']} {run.created_at:%Y-%m-%d %H:%M} {str(run.pk)[:4]}",
        state=ModelVersion.State.REJECTED if verdict.decision == Decision.REJECTED else ModelVersion.State.REGISTERED,
        reason="\n".join(verdict.reasons),
        gate=verdict.record,
        parent=run.parent,
        lineage={
            "run": str(run.pk),
            "dataset": dataset.checksum,
            "dataset_number": dataset.pk,
            "recipe": run.recipe,
            "code": code_version(),
            "compared_with": champion.pk if champion else None,
        },
    )
    # Only now: answers belong to a registered version.
    reference_answers.store_answers(version, answers)
    return version


def _judge(
    monitor: RunMonitor,
    fitted: "candidate_evaluation.FittedModel",
    metrics: dict[str, Any],
    corpus: "Corpus",
    champion: ModelVersion | None,
    learnt: Sequence[str],
) -> tuple[Verdict, list[ReferenceAnswer]]:
    """Compare the candidate with the champion and decide; return the candidate's reference answers as well."""
    limits = AcceptanceLimits(settings.MIN_ACCURACY[fitted.modality], settings.MAX_LATENCY_MS[fitted.modality])
    found = coverage_of(fitted.labels, before=traffic.served_labels(fitted.modality))
    if champion is None:
        return decide_on_candidate(metrics, limits, coverage=found), []
    test = comparison.compare_on_test_split(champion, corpus, fitted)
    products = reference_answers.measuring_products(fitted.modality)
    total = 2 * len(products)  # the champion and the candidate answer each
    monitor.start_stage(RunStage.MEASURE_REFERENCE_SET, 0, total)
    reference, answers = comparison.compare_on_reference_set(
        champion,
        fitted,
        products,
        learnt=learnt,
        progress=monitor.progress_counter(total),
    )
    return decide_on_candidate(metrics, limits, coverage=found, test=test, reference=reference), answers


def _go_live(run: TrainingRun, monitor: RunMonitor, version: ModelVersion, corpus: "Corpus") -> Outcome:
    """Compare the engines, fit the detector and the ensemble rule, then deploy.

    The version is registered only while an experiment runs, unless the run may end it, and when another version is
    live than the one that it was compared with.
    """
    _compare_engines(monitor, version, corpus)
    _fit_detector(monitor, version, corpus)
    monitor.start_stage(RunStage.FIT_ENSEMBLE_RULE)
    ensemble_fitting.fit_missing_rules(version, corpus)
    champion = traffic.current_champion(run.modality)
    if champion == version:
        if version.lineage.get("run") == str(run.pk):  # deployed by an earlier attempt
            return Outcome(TrainingRun.State.DEPLOYED, version.reason, version)
        return Outcome(TrainingRun.State.REGISTERED, _("It is the champion again: nothing to deploy."), version)
    if version.is_held:
        return Outcome(TrainingRun.State.HELD, version.reason, version)
    if not run.deploys:
        return Outcome(TrainingRun.State.REGISTERED, _("Passed: ready to be deployed."), version)
    monitor.save()  # raises when the run was cancelled or lost: after this it is deployed
    compared_with = ModelVersion.objects.filter(pk=version.lineage.get("compared_with")).first()
    note = _("Training run %(id)s") % {"id": run.pk}
    try:
        deployments.deploy_version(
            version,
            by=run.requested_by,
            note=note,
            expected_champion=deployments.ExpectedChampion(compared_with),
            ends_experiment=run.ends_test,
        )
    except deployments.NotDeployable as refusal:
        return Outcome(TrainingRun.State.REGISTERED, _("Passed, but was not deployed. %s") % refusal, version)
    return Outcome(TrainingRun.State.DEPLOYED, version.reason, version)


def _compare_engines(monitor: RunMonitor, version: ModelVersion, corpus: "Corpus") -> None:
    """Store with the version how this machine's engines answer held-back products; workers choose by it."""
    if version.engines:  # an earlier attempt
        return
    least = engine_agreement.MIN_ROWS
    if (count := labelled_products.count_in_corpus(corpus, version.modality)) < least:
        monitor.log_line(
            _("Engines are not compared: that needs %(least)d held-back products, and there are %(count)d.")
            % {"least": least, "count": count}
        )
        return
    monitor.start_stage(RunStage.COMPARE_ENGINES, 0, least)
    products = labelled_products.sample_products(
        labelled_products.products_in_corpus(corpus, version.modality), 2 * least
    )
    found = engine_agreement.compare_engines(
        version,
        products,
        least=least,
        progress=monitor.progress_counter(least),
    )
    for name, check in found.items():
        monitor.log_line(f"{name}: {check}")
        if check.n >= least:
            engine_agreement.store_check(version, name, check)
    version.refresh_from_db(fields=["engines"])


def _fit_detector(monitor: RunMonitor, version: ModelVersion, corpus: "Corpus") -> None:
    """Fit the detector that flags products unlike everything the version was trained with."""
    if DistributionDetector.objects.filter(version=version).exists():  # an earlier attempt
        return
    monitor.start_stage(RunStage.FIT_DETECTOR, 0, detector_fitting.ROWS)
    known, held_back = detector_fitting.sample_products(
        partial(labelled_products.products_in_corpus, corpus, version.modality)
    )
    found = detector_fitting.fit_detector(
        version,
        known,
        held_back,
        progress=monitor.progress_counter(detector_fitting.ROWS),
    )
    if found is None:
        monitor.log_line(
            _("Unusual products can't be flagged: that needs %(least)d held-back products.")
            % {"least": detector_fitting.MIN_ROWS}
        )


def _prepare_dataset(run: TrainingRun, monitor: RunMonitor) -> tuple[Dataset, "Corpus"]:
    """Return the run's dataset, made now if the run names none, and its verified local copy."""
    monitor.start_stage(RunStage.PREPARE_DATASET)
    dataset = run.dataset or snapshots.make_dataset(progress=monitor.report_progress)
    reference_set.refresh_reference_set()
    if not TrainingRun.objects.leased_as(run).update(dataset=dataset):
        raise LeaseLost
    monitor.log_line(_("Dataset %(number)d, %(checksum)s") % {"number": dataset.pk, "checksum": dataset.checksum[:12]})
    return dataset, snapshot_storage.fetch_corpus(dataset)


def _failed(why: str) -> Outcome:
    return Outcome(TrainingRun.State.FAILED, f"{why} {_('The live model is unchanged.')}")


def _try_again(run: TrainingRun, monitor: RunMonitor, message: str) -> None:
    monitor.log_line(message)
    renew_connection()  # the database may be what failed
    TrainingRun.objects.leased_as(run).update(
        state=TrainingRun.State.QUEUED,
        lease=None,
        available_at=Now() + RETRY_PAUSE * run.attempts,
        log=monitor.log_text(),
        message=_("Will be tried again: %s") % message,
    )


def _finish(run: TrainingRun, monitor: RunMonitor, outcome: Outcome) -> None:
    monitor.log_line(outcome.message)
    renew_connection()
    TrainingRun.objects.leased_as(run).update(
        state=outcome.state,
        message=outcome.message,
        version=outcome.version,
        curve=monitor.curve,
        log=monitor.log_text(),
        eta_seconds=None,
        finished_at=timezone.now(),
    )
    shutil.rmtree(monitor.folder, ignore_errors=True)
