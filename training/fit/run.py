"""A fit from its job to its artifact, stage by stage."""

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from classifier.ml.artifact import CONFIG, WEIGHTS, ArtifactError, read_config
from classifier.ml.encoders import HEAD, read_tensors
from classifier.ml.image_model import ImageModel
from classifier.ml.ngrams import LexicalModel
from classifier.ml.text_model import TextModel
from training.datasets.corpus import Corpus
from training.fit import export, ngrams, process_group
from training.fit.batches import EmbeddingRows, RowTargets
from training.fit.calibration import fit_pool, fit_temperature
from training.fit.job import FEEDBACK, Job, SplitTable, read_tables, row_weights, rows_of_mixed_sources
from training.fit.modalities import ImageFitting, ModalityFitting, SplitLogits, TextFitting
from training.fit.networks import (
    IdentityBody,
    Network,
    Scale,
    copy_matching_rows,
    extended_head,
    merged_state,
    new_head,
    unfreeze_layers,
)
from training.fit.progress import FitError, Progress
from training.fit.recipes import Recipe, TextRecipe
from training.fit.stages import Stage, replace_bytes, write_json
from training.fit.trainer import TrainerTask, Watcher, train_stage

ARTIFACT = "artifact"


@dataclass(frozen=True)
class StartingModel:
    """The live model to go on from: its labels, its head on plain embeddings, and its lexical part if it has one."""

    labels: list[str]
    head: dict[str, Tensor]
    lexical: LexicalModel | None = None


class ModelFit:
    """A job, its data and what has been computed of it."""

    def __init__(self, job: Job, progress: Progress) -> None:
        """Raises FitError when no model can come of the job."""
        self.job, self.progress = job, progress
        self.tables = read_tables(job)
        if left_out := sum(len(table.data) - len(table) for table in self.tables.values()):
            progress.say(f"{left_out} products of other categories are left out.")
        # Labels without a training row take no part in the fit: every row of the others would only push them down.
        self.learnt = tuple(job.labels[place] for place in np.unique(self.tables["train"].targets))
        model = self._load_start()
        self.start: StartingModel | None = None
        unlearnt = [label for label in job.labels if label not in self.learnt]
        if unlearnt and model is None:
            raise FitError(f"No product teaches {', '.join(unlearnt)}, and the live model has another backbone.")
        if job.replay is not None and len(set(process_group.gather_all(Corpus(job.replay).checksum))) > 1:
            raise FitError("The machines would replay different products. Start the run again.")
        if model is not None and job.start is not None:
            tensors = read_tensors(job.start)
            head = {name.removeprefix(HEAD): value for name, value in tensors.items() if name.startswith(HEAD)}
            self.start = StartingModel(model.labels, head, getattr(model, "lexical", None))
        self.side: ModalityFitting
        if job.modality == "text":
            self.side = TextFitting(job, self.tables, model if isinstance(model, TextModel) else None, progress)
        else:
            self.side = ImageFitting(job, self.tables, model if isinstance(model, ImageModel) else None, progress)

    def learn(self, recipe: Recipe, folder: Path, watcher: Watcher | None = None) -> tuple[Network, dict[str, Any]]:
        """Return the trained network and what its last stage came to; the stages' results lie under `folder`."""
        if len(self.learnt) < len(self.job.labels):
            self._check_heads(recipe)
        train_rows, validation_rows = self.side.embeddings("train"), self.side.embeddings("validation")
        scale = Scale.of(train_rows)
        head = new_head(train_rows.shape[1], len(self.learnt), recipe)
        network = Network(IdentityBody(), head, scale, recipe.dropout)
        if self.start is not None:
            fresh = copy_matching_rows(network, self.start.head, self.start.labels, self.learnt)
            if fresh:
                self.progress.say(f"New to the model that is gone on from: {', '.join(fresh)}")
        goals = self._goals("train", recipe), self._goals("validation", recipe)
        name, last = self.job.modality, recipe.method == "head"
        facts = train_stage(
            TrainerTask(
                f"{name} head",
                network,
                EmbeddingRows(train_rows, goals[0]),
                EmbeddingRows(validation_rows, goals[1]),
                recipe,
                joint=False,
            ),
            self._stage(folder / "head", recipe),
            self.progress,
            watcher if last else None,
        )
        self._report(f"{name} head", facts)
        if last:
            return network, facts
        encoder = copy.deepcopy(self.side.encoder)
        torch.manual_seed(recipe.seed)
        unfreeze_layers(encoder, recipe)
        joint = Network(self.side.body(encoder), copy.deepcopy(network.head), scale, recipe.dropout)
        facts = train_stage(
            TrainerTask(
                f"{name} encoder",
                joint,
                self.side.rows("train", goals[0], recipe),
                self.side.rows("validation", goals[1], recipe),
                recipe,
                joint=True,
                known=self.tables["train"].sources != FEEDBACK if self.start else None,
            ),
            self._stage(folder / "encoder", recipe),
            self.progress,
            watcher,
        )
        self._report(f"{name} encoder", facts)
        return joint, facts

    def finish(self, recipe: Recipe) -> None:
        """Write the artifact of the recipe and its answers for the validation and the test part."""
        stages = self.job.workdir / "stages"
        lexical_tensors: dict[str, Tensor] = {}
        if isinstance(recipe, TextRecipe) and recipe.lexical:
            lexical_stage = self._stage(stages / "lexical", recipe)
            ngrams.fit_lexical_part(
                self.tables, len(self.job.labels), recipe, lexical_stage, self.progress, self._lexical_start()
            )
            lexical_tensors = ngrams.read_lexical_tensors(lexical_stage, len(self.job.labels))
        network, _facts = self.learn(recipe, stages)
        encoder = getattr(network.body, "encoder", self.side.encoder)
        folder = self.job.workdir / ARTIFACT
        if process_group.is_first_process():
            shutil.rmtree(folder, ignore_errors=True)
            export.write_artifact(
                folder,
                recipe=recipe,
                labels=self.job.labels,
                head=self._whole_head(network.folded_head()),
                encoder=export.encoder_tensors(self.side.pretrained(), merged_state(encoder), recipe),
                lexical=lexical_tensors,
            )
        self._spread(folder)
        validation = self.side.answers(folder, "validation")
        self._calibrate(folder, validation)
        test = self.side.answers(folder, "test")
        if process_group.is_first_process():
            for split, answers in (("validation", validation), ("test", test)):
                write_predictions(self.job.workdir / f"{split}.npz", self.tables[split], answers, folder)
        process_group.wait_for_all()

    def _calibrate(self, folder: Path, answers: SplitLogits) -> None:
        """Fit the pool and the temperature on the validation part and put them into the artifact."""
        if process_group.is_first_process():
            table = self.tables["validation"]
            targets = torch.from_numpy(table.targets)
            weights = torch.from_numpy(table.weights * rows_of_mixed_sources(table)).double()
            pool = None
            logits = answers.encoder
            if answers.lexical is not None:
                pool = fit_pool(answers.lexical, answers.encoder, targets, weights)
                logits = pool(answers.lexical, answers.encoder)
                self.progress.say(f"Pool: lexical {pool.lexical:.3f}, encoder {pool.encoder:.3f}")
            temperature = fit_temperature(logits, targets, weights)
            self.progress.say(f"Temperature: {temperature:.3f}")
            export.store_calibration(folder, temperature=temperature, pool=pool)
        process_group.wait_for_all()

    def _spread(self, folder: Path) -> None:
        """Give the other machines the artifact that the first process wrote."""
        names = (CONFIG, WEIGHTS)
        contents = process_group.broadcast(
            [(folder / name).read_bytes() if process_group.is_first_process() else b"" for name in names]
        )
        if process_group.is_first_local_process() and not process_group.is_first_process():
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in zip(names, contents, strict=True):
                replace_bytes(folder / name, content)
        process_group.wait_for_all()

    def _check_heads(self, recipe: Recipe) -> None:
        """Raise FitError unless rows of the live model's head can stand in the new one: neither has a hidden layer."""
        assert self.start is not None  # noqa: S101 - the constructor refused labels without rows and without a start
        if recipe.hidden or set(self.start.head) != {"0.weight", "0.bias"}:
            unlearnt = [label for label in self.job.labels if label not in self.learnt]
            raise FitError(
                f"No product teaches {', '.join(unlearnt)}; they can be kept only where neither the recipe nor the "
                "live model has a hidden layer."
            )

    def _whole_head(self, head: nn.Sequential) -> nn.Sequential:
        """Return a head for all labels of the job: those that were not learnt keep the rows of the live model."""
        if len(self.learnt) == len(self.job.labels):
            return head
        assert self.start is not None  # noqa: S101 - `_check_heads` saw it
        return extended_head(head, self.learnt, self.start.head, self.start.labels, self.job.labels)

    def _lexical_start(self) -> LexicalModel | None:
        """Return the lexical part to go on from, its columns in the order of the job's labels."""
        if self.start is None or self.start.lexical is None:
            return None
        return ngrams.reorder_columns(self.start.lexical, self.start.labels, self.job.labels)

    def _goals(self, split: str, recipe: Recipe) -> RowTargets:
        table = self.tables[split]
        places = np.array([self.job.labels.index(label) for label in self.learnt])
        class_power = recipe.class_power if split == "train" else 0.0
        weights = row_weights(table.sources, table.targets, source_power=recipe.source_power, class_power=class_power)
        return RowTargets(np.searchsorted(places, table.targets), weights)

    def _stage(self, folder: Path, recipe: Recipe) -> Stage:
        return Stage(folder, self.job.fingerprint(recipe.to_json()))

    def _report(self, name: str, facts: dict[str, Any]) -> None:
        self.progress.say(
            f"{name}: validation log-loss {facts['validation_loss']:.4f}, accuracy {facts['accuracy']:.4f} after epoch "
            f"{facts['best_epoch']} of {facts['epochs']}, {facts['rate']} items/s"
        )

    def _load_start(self) -> TextModel | ImageModel | None:
        if self.job.start is None:
            return None
        try:
            config = read_config(self.job.start)
            if config["backbone"] != self.job.recipe.backbone:
                self.progress.say(f"The live model has another backbone ({config['backbone']}): beginning anew.")
                return None
            kind = TextModel if self.job.modality == "text" else ImageModel
            return kind.load(self.job.start, device="cpu")
        except ArtifactError as error:
            raise FitError(f"The model to go on from is unusable: {error}") from error


def fit_model(job: Job, progress: Progress) -> None:
    """Do the job. Raises FitError, in words, when no model comes of it."""
    from training.fit.tuning import tune_recipe

    done = Stage(job.workdir / "stages" / "all", job.fingerprint(job.recipe.to_json(), job.trials, job.study))
    if done.done is not None:
        return
    work = ModelFit(job, progress)
    recipe = tune_recipe(work) if job.trials else job.recipe
    if process_group.is_first_process():
        write_json(job.workdir / "recipe.json", recipe.to_json())
    work.finish(recipe)
    done.finish({"recipe": recipe.to_json()})


def write_predictions(path: Path, table: SplitTable, answers: SplitLogits, folder: Path) -> None:
    """Write keys, targets, probabilities and logits_before of one split, as the artifact in `folder` answers."""
    from classifier.ml.encoders import calibrate_logits
    from classifier.ml.ngrams import LogitPool

    config = read_config(folder)
    logits = answers.encoder
    if answers.lexical is not None:
        logits = LogitPool.read(config)(answers.lexical, answers.encoder)
    probabilities = calibrate_logits(logits, torch.empty(0), float(config["temperature"])).probabilities
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(
            file,
            keys=table.keys,
            targets=table.targets,
            probabilities=probabilities,
            logits_before=logits.double().log_softmax(dim=1).float().numpy(),
        )
    unfinished.replace(path)
