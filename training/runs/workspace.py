"""Prepare and clean up the folders in which training runs work on this machine."""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings

from classifier.modalities import MODALITIES
from classifier.models import Category
from classifier.registry import artifact_store, versions
from training.acceptance import replay
from training.datasets.corpus import MANIFEST, write_corpus
from training.models import Dataset, TrainingRun

if TYPE_CHECKING:
    from training.datasets.corpus import Corpus

KEPT_DATASETS = 3


def work_folder(run: TrainingRun) -> Path:
    """Return where a run keeps its checkpoints on the machine that works on it."""
    return Path(settings.TRAINING_DIR) / "runs" / str(run.pk)


def code_version() -> str:
    """Return Aisle's version, with the commit where the code is a git checkout."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    return f"{package_version('aisle')}+{commit}" if commit else package_version("aisle")


def remove_old_folders() -> None:
    """Remove what ended runs and old datasets left on this machine."""
    active = TrainingRun.objects.active()
    runs = {str(pk) for pk in active.values_list("pk", flat=True)}
    latest = Dataset.objects.order_by("-pk").values_list("checksum", flat=True)[:KEPT_DATASETS]
    datasets = {*latest, *active.exclude(dataset=None).values_list("dataset__checksum", flat=True)}
    _remove_folders(Path(settings.TRAINING_DIR) / "runs", kept=runs)
    _remove_folders(Path(settings.DATASET_CACHE), kept=datasets)


def labels_to_learn(run: TrainingRun, corpus: "Corpus") -> list[str]:
    """Return the dataset's labels that are still categories and have enough training products of the modality."""
    needs = MODALITIES[run.modality].corpus_filter
    counts = Counter(corpus.split("train", columns=["label"], **needs)["label"])
    known = set(Category.objects.values_list("slug", flat=True))
    least = int(run.recipe.get("least_rows", 1))
    return [label for label in corpus.labels if label in known and counts[label] >= least]


def labels_to_keep(run: TrainingRun, labels: Sequence[str]) -> list[str]:
    """Return the active categories that the model to continue from knows and `labels` lacks."""
    known = versions.read_labels(run.parent) if run.parent else []
    active = set(Category.objects.active().values_list("slug", flat=True))
    return [label for label in known if label in active and label not in labels]


def write_job(run: TrainingRun, folder: Path, corpus: "Corpus", labels: Sequence[str]) -> None:
    """Write job.json for the fit's process and, with a model to continue from, the corpus that is replayed."""
    start = artifact_store.fetch_artifact(run.parent.path, run.parent.checksum) if run.parent else None
    kept = labels_to_keep(run, labels)
    job: dict[str, Any] = {
        "modality": run.modality,
        "recipe": run.recipe,
        "corpus": str(corpus.folder),
        "labels": sorted([*labels, *kept]),
        "kept": kept,
        "start": str(start) if start else None,
        "replay": _write_replay_corpus(run, folder, corpus),
        "trials": run.trials,
        "study": str(run.pk),
    }
    (folder / "job.json").write_text(json.dumps(job, indent=1), encoding="utf-8")


def _write_replay_corpus(run: TrainingRun, folder: Path, corpus: "Corpus") -> str | None:
    """Write the products that the model to continue from must not forget; return their folder, None for no model."""
    target = folder / "replay"
    if run.parent is None:
        return None
    # An earlier attempt's corpus stays: stages that continue from a checkpoint were fitted on it.
    if not (target / MANIFEST).is_file():
        shutil.rmtree(target, ignore_errors=True)
        rows = replay.replay_rows(run.parent, without=corpus)
        write_corpus(rows, target, exclusions={}, least_labels=0)
    return str(target)


def _remove_folders(parent: Path, *, kept: set[str]) -> None:
    if not parent.is_dir():
        return
    for path in parent.iterdir():
        # Names with a dot are another process's unfinished work.
        if path.is_dir() and path.name not in kept and not path.name.startswith("."):
            shutil.rmtree(path, ignore_errors=True)
