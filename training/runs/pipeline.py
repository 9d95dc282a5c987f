"""One training run from its claim to its end: data, fit, proof, registry, deployment."""

import errno
import json
import logging
import shutil
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import DatabaseError
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.evaluation.category_coverage import coverage_of
from classifier.ml import artifact
from classifier.models import Category, Decision, DistributionDetector, Modality, ModelVersion, ReferenceAnswer
from classifier.registry import artifact_store, deployments, traffic, versions
from common.object_storage import StorageDown
from training.acceptance import (
    candidate_evaluation,
    comparison,
    detector_fitting,
    engine_agreement,
    ensemble_fitting,
    reference_set,
)
from training.acceptance.gate import AcceptanceLimits, Verdict, decide_on_candidate
from training.datasets import labelled_products, snapshots
from training.datasets.corpus import MANIFEST, CorpusError, write_corpus
from training.models import Dataset, TrainingRun
from training.runs.services import code_version, work_folder
from training.runs.subprocess_runner import (
    Cancelled,
    FitFailed,
    LeaseLost,
    RunMonitor,
    renew_connection,
    run_fit_process,
    send_heartbeats,
)

if TYPE_CHECKING:
    from training.datasets.corpus import Corpus

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
KEPT_DATASETS = 3
PAUSE = timedelta(seconds=15)


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its state, a sentence, and the version that came of it, if any."""

    state: TrainingRun.State
    message: str
    version: ModelVersion | None = None


def execute_run(run: TrainingRun) -> None:
    """Do the work of a claimed run and write its outcome on it. Whatever goes wrong ends up there too."""
    watch = RunMonitor(run, work_folder(run), curve=list(run.curve), lines=run.log.splitlines())
    if run.attempts > 1:
        watch.say(_("Attempt %(number)d: going on from the last checkpoint.") % {"number": run.attempts})
    try:
        if run.attempts > MOST_ATTEMPTS:
            raise FitFailed(_("Its worker was killed again and again, probably for memory."), permanent=True)
        with send_heartbeats(run):
            _tidy()
            watch.folder.mkdir(parents=True, exist_ok=True)
            outcome = _work(run, watch)
    except LeaseLost:
        log.warning("Training run %s was taken over by another worker.", run.pk)
        return
    except Cancelled:
        outcome = Outcome(TrainingRun.State.CANCELLED, _("Cancelled. The live model is untouched."))
    except (FitFailed, StorageDown, DatabaseError) as error:
        if not getattr(error, "permanent", False) and run.attempts < MOST_ATTEMPTS:
            _try_again(run, watch, str(error))
            return
        outcome = _failed(str(error))
    except (CorpusError, artifact.ArtifactError, deployments.NotDeployable) as error:
        outcome = _failed(str(error))
    except OSError as error:
        outcome = _failed(_("The disk is full.") if error.errno == errno.ENOSPC else str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the run says so and the worker goes on
        watch.say(traceback.format_exc())
        outcome = _failed(f"{type(error).__name__}: {error}.")
    _finish(run, watch, outcome)


def _work(run: TrainingRun, watch: RunMonitor) -> Outcome:
    dataset, corpus = _data(run, watch)
    # An earlier attempt may have come this far.
    version = ModelVersion.objects.filter(lineage__run=str(run.pk)).first() or _make(run, watch, dataset, corpus)
    if not TrainingRun.objects.leased_as(run).update(version=version):
        raise LeaseLost
    if version.state == ModelVersion.State.REJECTED:
        return Outcome(TrainingRun.State.REJECTED, version.reason, version)
    return _go_live(run, watch, version, corpus)


def _make(run: TrainingRun, watch: RunMonitor, dataset: Dataset, corpus: "Corpus") -> ModelVersion:
    """Fit, measure, and register what passes the gate or is rejected by it."""
    labels = labels_to_learn(run, corpus)
    if left_out := sorted(set(corpus.labels) - set(labels)):
        watch.say(
            _("Left out, with too few training products or no categories any more: %(labels)s")
            % {"labels": ", ".join(left_out)}
        )
    write_job(run, watch.folder, corpus, labels)
    run_fit_process(watch)
    watch.stage(_("Measuring on the test part"))
    fitted = candidate_evaluation.read_fitted_model(watch.folder, run.modality)
    champion = traffic.current_champion(run.modality)
    metrics, card = candidate_evaluation.evaluate_candidate(fitted, corpus)
    verdict, answers = _judge(watch, fitted, metrics, corpus, champion, labels)
    for reason in verdict.reasons:
        watch.say(reason)
    watch.stage(_("Registering"))
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
    reference_set.store_answers(version, answers)
    return version


def _judge(
    watch: RunMonitor,
    fitted: "candidate_evaluation.FittedModel",
    metrics: dict[str, Any],
    corpus: "Corpus",
    champion: ModelVersion | None,
    learnt: Sequence[str],
) -> tuple[Verdict, list[ReferenceAnswer]]:
    """Compare the candidate with the champion on all that the gate asks for; return its answers to keep them too."""
    limits = AcceptanceLimits(settings.MIN_ACCURACY[fitted.modality], settings.MAX_LATENCY_MS[fitted.modality])
    found = coverage_of(fitted.labels, before=traffic.served_labels(fitted.modality))
    if champion is None:
        return decide_on_candidate(metrics, limits, coverage=found), []
    test = comparison.compare_on_test_split(champion, corpus, fitted)
    products = reference_set.measuring_products(fitted.modality)
    watch.stage(_("Measuring on the reference set"), 0, total := 2 * len(products))
    reference, answers = comparison.compare_on_reference_set(
        champion,
        fitted,
        products,
        learnt=learnt,
        progress=lambda rows: watch.count(watch.progress["step"] + rows, total),
    )
    return decide_on_candidate(metrics, limits, coverage=found, test=test, reference=reference), answers


def _go_live(run: TrainingRun, watch: RunMonitor, version: ModelVersion, corpus: "Corpus") -> Outcome:
    """Compare the engines and fit the rule with the live partner, then deploy.

    Not while a test runs, unless the run may end it, nor when something else serves than what it was compared with.
    """
    _compare_engines(watch, version, corpus)
    _learn_unusual(watch, version, corpus)
    watch.stage(_("Fitting the ensemble rule"))
    ensemble_fitting.fit_missing_rules(version, corpus)
    champion = traffic.current_champion(run.modality)
    if champion == version:
        if version.lineage.get("run") == str(run.pk):  # deployed by an earlier attempt
            return Outcome(TrainingRun.State.DEPLOYED, version.reason, version)
        return Outcome(TrainingRun.State.REGISTERED, _("The champion came out again: nothing to deploy."), version)
    if version.is_held:
        return Outcome(TrainingRun.State.HELD, version.reason, version)
    if not run.deploys:
        return Outcome(TrainingRun.State.REGISTERED, _("Passed: ready to be deployed."), version)
    watch.tell()  # the last moment to be told to stop
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


def _compare_engines(watch: RunMonitor, version: ModelVersion, corpus: "Corpus") -> None:
    """Keep with the version how this machine's engines answer its held-back products: workers go by it."""
    if version.engines:  # an earlier attempt
        return
    least = engine_agreement.LEAST_ROWS
    if (count := labelled_products.count_in_corpus(corpus, version.modality)) < least:
        watch.say(
            _("Engines are not compared: it takes %(least)d held-back products, and there are %(count)d.")
            % {"least": least, "count": count}
        )
        return
    watch.stage(_("Comparing engines"), 0, least)
    products = labelled_products.sample_products(
        labelled_products.products_in_corpus(corpus, version.modality), 2 * least
    )
    found = engine_agreement.compare_engines(
        version, products, least=least, progress=lambda rows: watch.count(watch.progress["step"] + rows, least)
    )
    for name, check in found.items():
        watch.say(f"{name}: {check}")
        if check.n >= least:
            engine_agreement.store_check(version, name, check)
    version.refresh_from_db(fields=["engines"])


def _learn_unusual(watch: RunMonitor, version: ModelVersion, corpus: "Corpus") -> None:
    """Keep with the version what tells inputs that are unlike all that it learnt."""
    if DistributionDetector.objects.filter(version=version).exists():  # an earlier attempt
        return
    watch.stage(_("Learning what is usual"), 0, detector_fitting.ROWS)
    known, held_back = detector_fitting.sample_products(
        partial(labelled_products.products_in_corpus, corpus, version.modality)
    )
    found = detector_fitting.fit_detector(
        version,
        known,
        held_back,
        progress=lambda rows: watch.count(watch.progress["step"] + rows, detector_fitting.ROWS),
    )
    if found is None:
        watch.say(
            _("Unusual inputs can't be told: that takes %(least)d held-back products.")
            % {"least": detector_fitting.LEAST}
        )


def _tidy() -> None:
    """Remove what ended runs and old datasets left on this machine."""
    active = TrainingRun.objects.active()
    runs = {str(pk) for pk in active.values_list("pk", flat=True)}
    latest = Dataset.objects.order_by("-pk").values_list("checksum", flat=True)[:KEPT_DATASETS]
    datasets = {*latest, *active.exclude(dataset=None).values_list("dataset__checksum", flat=True)}
    for folder, kept in ((Path(settings.TRAINING_DIR) / "runs", runs), (Path(settings.DATASET_CACHE), datasets)):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_dir() and path.name not in kept and not path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)


def _data(run: TrainingRun, watch: RunMonitor) -> tuple[Dataset, "Corpus"]:
    """Return the run's dataset, made now if none was named, and its verified local copy."""
    watch.stage(_("Preparing the dataset"))
    dataset = run.dataset or snapshots.make_dataset(progress=watch.count)
    reference_set.refresh_reference_set()
    if not TrainingRun.objects.leased_as(run).update(dataset=dataset):
        raise LeaseLost
    watch.say(_("Dataset %(number)d, %(checksum)s") % {"number": dataset.pk, "checksum": dataset.checksum[:12]})
    return dataset, snapshots.fetch_corpus(dataset)


def labels_to_learn(run: TrainingRun, corpus: "Corpus") -> list[str]:
    """Return the dataset's labels that are still categories and have enough training products of the modality."""
    needs = {"with_text": run.modality == Modality.TEXT, "with_photo": run.modality == Modality.IMAGE}
    counts = Counter(corpus.split("train", columns=["label"], **needs)["label"])
    known = set(Category.objects.values_list("slug", flat=True))
    least = int(run.recipe.get("least_rows", 1))
    return [label for label in corpus.labels if label in known and counts[label] >= least]


def labels_to_keep(run: TrainingRun, labels: Sequence[str]) -> list[str]:
    """Return the active categories that the model to go on from knows and `labels` lacks."""
    known = versions.read_labels(run.parent) if run.parent else []
    active = set(Category.objects.active().values_list("slug", flat=True))
    return [label for label in known if label in active and label not in labels]


def write_job(run: TrainingRun, folder: Path, corpus: "Corpus", labels: Sequence[str]) -> None:
    """Write what the child process reads: with a model to go on from, also what it must not forget."""
    start = artifact_store.fetch_artifact(run.parent.path, run.parent.checksum) if run.parent else None
    kept = labels_to_keep(run, labels)
    job: dict[str, Any] = {
        "modality": run.modality,
        "recipe": run.recipe,
        "corpus": str(corpus.folder),
        "labels": sorted([*labels, *kept]),
        "kept": kept,
        "start": str(start) if start else None,
        "replay": _write_replay(run, folder, corpus),
        "trials": run.trials,
        "study": str(run.pk),
    }
    (folder / "job.json").write_text(json.dumps(job, indent=1), encoding="utf-8")


def _write_replay(run: TrainingRun, folder: Path, corpus: "Corpus") -> str | None:
    """Write what the model to go on from shall not forget, without what the corpus holds; None for nothing."""
    target = folder / "replay"
    if run.parent is None:
        return None
    if not (target / MANIFEST).is_file():  # else an earlier attempt wrote it
        shutil.rmtree(target, ignore_errors=True)
        rows = reference_set.replay_rows(run.parent, besides=corpus)
        write_corpus(rows, target, exclusions={}, least_labels=0)
    return str(target)


def _failed(why: str) -> Outcome:
    return Outcome(TrainingRun.State.FAILED, f"{why} {_('The live model is untouched.')}")


def _try_again(run: TrainingRun, watch: RunMonitor, message: str) -> None:
    watch.say(message)
    renew_connection()  # the database may be what was away
    TrainingRun.objects.leased_as(run).update(
        state=TrainingRun.State.QUEUED,
        lease=None,
        available_at=Now() + PAUSE * run.attempts,
        log=watch.log(),
        message=_("Will go on: %s") % message,
    )


def _finish(run: TrainingRun, watch: RunMonitor, outcome: Outcome) -> None:
    watch.say(outcome.message)
    renew_connection()
    TrainingRun.objects.leased_as(run).update(
        state=outcome.state,
        message=outcome.message,
        version=outcome.version,
        curve=watch.curve,
        log=watch.log(),
        eta_seconds=None,
        finished_at=timezone.now(),
    )
    shutil.rmtree(watch.folder, ignore_errors=True)
