"""manage.py join_training RUN [--node-rank N]: take part in a run that another process leads."""

import os
import shutil
import subprocess
import sys
import time
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from training.datasets import snapshot_storage
from training.models import Dataset, TrainingRun
from training.runs import workspace
from training.runs.subprocess_runner import child_environment, fit_command

POLL_SECONDS = 1.0


class Command(BaseCommand):
    help = (
        "Take part in a run that was started with --nnodes (--node-rank is this machine's number), or take trials of "
        "one that tunes. Ends when there is nothing left to do."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", type=UUID, help="the run's id, as retrain printed it")
        parser.add_argument(
            "--node-rank", type=int, help="with --nnodes: 1 for the second machine, 2 for the third ..."
        )

    def handle(self, *, run: UUID, node_rank: int | None, **options: Any) -> None:
        found, dataset = _with_dataset(run)
        if node_rank is None and not found.trials:
            raise CommandError("The run doesn't tune: give this machine's number with --node-rank.")
        if node_rank is not None and not 0 < node_rank < found.machines:
            raise CommandError(f"The run has {found.machines} machines: --node-rank is at least 1 and less than that.")
        folder = workspace.work_folder(found) / (f"trials-{os.getpid()}" if node_rank is None else f"node-{node_rank}")
        folder.mkdir(parents=True, exist_ok=True)
        corpus = snapshot_storage.fetch_corpus(dataset)
        workspace.write_job(found, folder, corpus, workspace.labels_to_learn(found, corpus))
        if node_rank is None:
            work = [sys.executable, "-m", "training.fit", str(folder), "--trials-only"]
        else:
            work = fit_command(found, folder, node_rank=node_rank)
        ended = subprocess.run(work, cwd=settings.BASE_DIR, env=child_environment(found), check=False)
        shutil.rmtree(folder, ignore_errors=True)
        if ended.returncode:
            raise CommandError(f"The process ended with {ended.returncode}; see the run's page.")


def _with_dataset(pk: UUID) -> tuple[TrainingRun, Dataset]:
    """Wait until the run's dataset is made; return both."""
    while True:
        run = TrainingRun.objects.select_related("dataset", "parent").filter(pk=pk).first()
        if run is None or not run.is_active:
            raise CommandError("There is no such active run.")
        if run.dataset:
            return run, run.dataset
        time.sleep(POLL_SECONDS)
