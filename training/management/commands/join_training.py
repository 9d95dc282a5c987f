"""manage.py join_training RUN --node-rank N: lend this machine to a run that another machine leads."""

import subprocess
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from training import pipeline, snapshots
from training.models import TrainingRun
from training.runner import child_environment, command
from training.services import work_folder


class Command(BaseCommand):
    help = "Take part in a run that was started with --nnodes on another machine; ends when the run's fit ends."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", type=UUID, help="the run's id, as retrain --nnodes printed it")
        parser.add_argument(
            "--node-rank", type=int, required=True, help="1 for the second machine, 2 for the third ..."
        )

    def handle(self, *, run: UUID, node_rank: int, **options: Any) -> None:
        found = TrainingRun.objects.select_related("dataset", "parent").filter(pk=run).first()
        if found is None or found.dataset is None or not found.is_active:
            raise CommandError("There is no such run at work, or its dataset isn't made yet: name one with --dataset.")
        if not 0 < node_rank < found.machines:
            raise CommandError(
                f"The run has {found.machines} machines: --node-rank lies between 1 and {found.machines - 1}."
            )
        folder = work_folder(found) / f"node-{node_rank}"
        folder.mkdir(parents=True, exist_ok=True)
        corpus = snapshots.fetch(found.dataset)
        pipeline.write_job(found, folder, corpus, pipeline.known_labels(corpus))
        ended = subprocess.run(
            command(found, folder, node_rank=node_rank), cwd=settings.BASE_DIR, env=child_environment(), check=False
        )
        if ended.returncode:
            raise CommandError(f"The training process ended with {ended.returncode}; the run's page says more.")
