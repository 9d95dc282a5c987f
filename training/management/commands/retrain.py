"""manage.py retrain [text|image|all]: train, evaluate and deploy, with progress on the terminal."""

import sys
import threading
import time
from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from tqdm import tqdm

from classifier.models import Modality, ModelVersion
from classifier.registry import traffic, versions
from training.fit import recipes
from training.models import Dataset, TrainingRun
from training.runs import services
from training.runs.stage_labels import stage_label

POLL_SECONDS = 1.0
BAR = "{desc}: {percentage:3.0f}% |{bar:20}| {n_fmt}/{total_fmt}{postfix}"
SUCCESSFUL = (TrainingRun.State.DEPLOYED, TrainingRun.State.REGISTERED)


class Command(BaseCommand):
    help = (
        "Train the text or image model (or both, side by side) on a dataset, measure it on the test split, and "
        "deploy it if it passes the gate; otherwise keep the champion and say why."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("modality", nargs="?", default="all", choices=[*Modality.values, "all"])
        parser.add_argument("--dataset", help="number or checksum of a dataset; default: a new one of all examples")
        parser.add_argument("--recipe", default=recipes.DEFAULT, help=f"one of {', '.join(recipes.recipe_names())}")
        parser.add_argument(
            "--from", dest="start", metavar="VERSION", help="continue “champion” or a version, by its name"
        )
        parser.add_argument("--tune", type=int, default=0, metavar="N", help="let Optuna try N variations first")
        parser.add_argument("--nproc", type=int, default=1, metavar="N", help="processes on this machine (torchrun)")
        parser.add_argument("--nnodes", type=int, default=1, metavar="N", help="machines; the others run join_training")
        parser.add_argument("--master", default="", metavar="HOST:PORT", help="with --nnodes: this machine's address")
        deploying = parser.add_mutually_exclusive_group()
        deploying.add_argument("--no-deploy", action="store_true", help="only register a model that passes")
        deploying.add_argument(
            "--end-test", action="store_true", help="deploy it even during an experiment, which ends it"
        )
        parser.add_argument("--background", action="store_true", help="leave the work to the training workers")
        parser.add_argument("--resume", action="store_true", help="continue runs whose process was killed")
        parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")

    def handle(self, **options: Any) -> None:
        modalities = list(Modality) if options["modality"] == "all" else [Modality(options["modality"])]
        if options["resume"]:
            runs = self._find_interrupted(modalities)
        else:
            requests = [self._read_options(modality, options) for modality in modalities]
            if options["dry_run"]:
                self._print_plan(requests)
                return
            runs = self._request_runs(requests)
        if options["background"]:
            for run in runs:
                self.stdout.write(f"{run.modality}: queued as {run.pk}")
            return
        self._work(runs)
        failed = [run for run in self._report(runs) if run.state not in SUCCESSFUL]
        if failed:
            raise CommandError(", ".join(f"{run.modality}: {run.get_state_display()}" for run in failed))

    def _read_options(self, modality: Modality, options: dict[str, Any]) -> dict[str, Any]:
        try:
            recipe = recipes.named_recipe(modality, options["recipe"])
        except ValueError as error:
            raise CommandError(str(error)) from error
        if options["tune"] < 0 or options["nproc"] < 1 or options["nnodes"] < 1:
            raise CommandError("--tune must be 0 or more, --nproc and --nnodes 1 or more.")
        return {
            "modality": modality,
            "recipe": recipe,
            "dataset": self._dataset(options["dataset"]),
            "parent": self._parent(modality, options["start"]),
            "trials": options["tune"],
            "processes": options["nproc"],
            "machines": options["nnodes"],
            "master": options["master"],
            "deploys": not options["no_deploy"],
            "ends_test": options["end_test"],
        }

    def _dataset(self, name: str | None) -> Dataset | None:
        if name is None:
            return None
        found = (
            Dataset.objects.filter(pk=int(name))
            if name.isdigit()
            else Dataset.objects.filter(checksum__startswith=name)
        )
        if len(found) != 1:
            known = ", ".join(str(pk) for pk in Dataset.objects.values_list("pk", flat=True)[:20]) or "none yet"
            raise CommandError(f"There is no single dataset {name!r}. Known: {known}.")
        return found[0]

    def _parent(self, modality: Modality, name: str | None) -> Any:
        if name is None:
            return None
        try:
            version = traffic.current_champion(modality) if name == "champion" else versions.find_version(name)
        except ModelVersion.DoesNotExist as error:
            raise CommandError(str(error)) from error
        if version is None:
            raise CommandError(f"No {modality} model is live to continue from.")
        return version

    def _print_plan(self, requests: list[dict[str, Any]]) -> None:
        for kwargs in requests:
            run = TrainingRun(**{**kwargs, "recipe": kwargs["recipe"].to_json()})
            self.stdout.write(f"{run.modality}:")
            for name, value in services.describe_plan(run).items():
                self.stdout.write(f"  {name}: {value}")
        self.stdout.write("Nothing was started.")

    def _request_runs(self, requests: list[dict[str, Any]]) -> list[TrainingRun]:
        runs = []
        for kwargs in requests:
            try:
                run = services.request_training(**kwargs)
                runs.append(run)
                if run.machines > 1:
                    self.stdout.write(f"On the other machines: manage.py join_training {run.pk} --node-rank 1 (2, ...)")
                elif run.trials:
                    self.stdout.write(f"Others may take trials too: manage.py join_training {run.pk}")
            except services.TrainingRefused as refusal:
                self.stderr.write(f"{kwargs['modality']}: {refusal}")
        if not runs:
            raise CommandError("Nothing was started.")
        return runs

    def _find_interrupted(self, modalities: list[Modality]) -> list[TrainingRun]:
        runs = list(TrainingRun.objects.claimable().filter(modality__in=modalities))
        if not runs:
            raise CommandError("There is no interrupted run to continue.")
        return runs

    def _work(self, runs: list[TrainingRun]) -> None:
        """Work on the runs in threads, unless a training worker was quicker, and show the progress on their rows."""
        threads = [threading.Thread(target=_train_until_done, args=(run,), daemon=True) for run in runs]
        for thread in threads:
            thread.start()
        bars = {run.pk: tqdm(desc=run.modality, position=i, leave=True, bar_format=BAR) for i, run in enumerate(runs)}
        try:
            while active := list(TrainingRun.objects.active().filter(pk__in=bars)):
                if not any(thread.is_alive() for thread in threads):
                    raise CommandError("The work ended with the error above. Continue with: retrain --resume")
                for run in active:
                    _show_progress(bars[run.pk], run)
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            for run in runs:
                services.cancel_training(run)
        finally:
            for thread in threads:
                thread.join()
            for bar in bars.values():
                bar.close()

    def _report(self, runs: list[TrainingRun]) -> list[TrainingRun]:
        done = list(TrainingRun.objects.select_related("version").filter(pk__in=[run.pk for run in runs]))
        for run in done:
            self.stdout.write(f"{run.modality}: {run.get_state_display()}. {run.message}")
            if run.version:
                self.stdout.write(f"  {run.version}: manage.py models show {run.version.pk}")
        return done


def _train_until_done(run: TrainingRun) -> None:
    # Here, so that `retrain --background` and `--dry-run` don't load torch.
    from training.runs import pipeline

    try:
        while TrainingRun.objects.active().filter(pk=run.pk).exists():
            if claimed := TrainingRun.objects.claim(run.pk):
                pipeline.execute_run(claimed)
            else:  # it pauses after a failure, or a training worker was quicker
                time.sleep(POLL_SECONDS)
    finally:
        connection.close()


def _show_progress(bar: "tqdm[Any]", run: TrainingRun) -> None:
    name = f"{run.modality}: {stage_label(run.stage) if run.stage else run.get_state_display()}"
    is_new = name != bar.desc
    if is_new:  # each stage has its own rate and end
        bar.reset(run.total or None)
        bar.set_description_str(name, refresh=False)
    bar.total, bar.n = run.total or None, run.step
    figures = {
        "loss": run.loss and f"{run.loss:.4f}",
        "items/s": run.rate and f"{run.rate:.0f}",
        "left": run.eta_seconds and tqdm.format_interval(run.eta_seconds),
    }
    bar.set_postfix({name: value for name, value in figures.items() if value}, refresh=False)
    if is_new or sys.stderr.isatty():  # in a log file, one line for each stage
        bar.refresh()
