"""Fit a job's model stage by stage: embeddings, head, encoder, lexical part, calibration and predictions."""

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from classifier.ml.artifact import CONFIG, WEIGHTS, ArtifactError, read_config
from classifier.ml.encoders import HEAD, calibrate_logits, read_tensors
from classifier.ml.image_model import ImageModel
from classifier.ml.ngrams import LexicalModel, LogitPool
from classifier.ml.text_model import LengthScales, TextModel
from training.datasets.corpus import Corpus
from training.fit import export, lexical_part, process_group
from training.fit.batches import EmbeddingRows, RowTargets
from training.fit.calibration import cautious_scales, fit_length_scales, fit_pool, fit_temperature
from training.fit.everyday_rows import add_everyday_titles
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
from training.fit.stage_codes import RunStage
from training.fit.stages import Stage, replace_bytes
from training.fit.trainer import EpochCallback, TrainerTask, train_stage

ARTIFACT = "artifact"


@dataclass(frozen=True)
class StartingModel:
    """The live model to continue from: its labels, its head on plain embeddings, and its lexical part if it has one."""

    labels: list[str]
    head: dict[str, Tensor]
    lexical: LexicalModel | None = None


class ModelFit:
    """A job with its data and everything that has been computed for it."""

    def __init__(self, job: Job, progress: Progress) -> None:
        """Raises FitError when no model can come of the job."""
        self.job, self.progress = job, progress
        self.tables = read_tables(job)
        if left_out := sum(len(table.data) - len(table) for table in self.tables.values()):
            progress.log(f"{left_out} products of other categories are left out.")
        if isinstance(job.recipe, TextRecipe) and job.recipe.everyday_titles:
            self.tables = add_everyday_titles(self.tables, job)
        # Labels without a training row take no part in the fit: every row of the others would only push them down.
        self.learnt = tuple(job.labels[column] for column in np.unique(self.tables["train"].targets))
        self.unlearnt = [label for label in job.labels if label not in self.learnt]
        model = self._load_starting_model()
        if self.unlearnt and model is None:
            raise FitError(f"No product teaches {', '.join(self.unlearnt)}, and the live model has another backbone.")
        if job.replay is not None and len(set(process_group.gather_all(Corpus(job.replay).checksum))) > 1:
            raise FitError("The machines would replay different products. Start the run again.")
        self.start: StartingModel | None = None
        if model is not None and job.start is not None:
            tensors = read_tensors(job.start)
            head = {name.removeprefix(HEAD): value for name, value in tensors.items() if name.startswith(HEAD)}
            self.start = StartingModel(model.labels, head, getattr(model, "lexical", None))
        self.modality: ModalityFitting
        if job.modality == "text":
            text_start = model if isinstance(model, TextModel) else None
            self.modality = TextFitting(job, self.tables, text_start, progress)
        else:
            image_start = model if isinstance(model, ImageModel) else None
            self.modality = ImageFitting(job, self.tables, image_start, progress)

    def train_network(
        self, recipe: Recipe, folder: Path, on_epoch: EpochCallback | None = None
    ) -> tuple[Network, dict[str, Any]]:
        """Train the head and, by the recipe's method, the encoder; return the network and the last stage's results.

        The stages' results are kept under `folder`. `on_epoch` is called in the last stage.
        """
        if recipe.method == "lexical":
            return self._kept_network(recipe), {}
        if self.unlearnt:
            self._check_heads(recipe)
        train_rows, validation_rows = self.modality.embeddings("train"), self.modality.embeddings("validation")
        scale = Scale.of(train_rows)
        head = new_head(train_rows.shape[1], len(self.learnt), recipe)
        network = Network(IdentityBody(), head, scale, recipe.dropout)
        if self.start is not None:
            new_labels = copy_matching_rows(network, self.start.head, self.start.labels, self.learnt)
            if new_labels:
                self.progress.log(f"New to the model that is continued: {', '.join(new_labels)}")
        trains_head_alone = recipe.method == "head"
        task = TrainerTask(
            RunStage(f"{self.job.modality}_head"),
            network,
            EmbeddingRows(train_rows, self._targets("train", recipe)),
            EmbeddingRows(validation_rows, self._targets("validation", recipe)),
            recipe,
            joint=False,
        )
        results = train_stage(
            task, self._stage(folder / "head", recipe), self.progress, on_epoch if trains_head_alone else None
        )
        self._log_results(task.name, results)
        if trains_head_alone:
            return network, results
        return self._train_encoder(network, recipe, folder, on_epoch)

    def _kept_network(self, recipe: Recipe) -> Network:
        """Return the live model's head as it is. Raises FitError where it can't serve the job's labels."""
        if self.start is None:
            raise FitError(f"The recipe {recipe.name} continues a live model of the same backbone; there is none.")
        weight = self.start.head["0.weight"]
        scale = Scale(torch.zeros(weight.shape[1]), torch.ones(weight.shape[1]))
        network = Network(IdentityBody(), new_head(weight.shape[1], len(self.learnt), recipe), scale, recipe.dropout)
        if new_labels := copy_matching_rows(network, self.start.head, self.start.labels, self.learnt):
            raise FitError(
                f"The recipe {recipe.name} keeps the live model's head, which lacks {', '.join(new_labels)}."
            )
        return network

    def write_model(self, recipe: Recipe) -> None:
        """Write the recipe's artifact and its predictions for the validation and the test split."""
        stages = self.job.workdir / "stages"
        lexical_tensors: dict[str, Tensor] = {}
        if isinstance(recipe, TextRecipe) and recipe.lexical:
            lexical_stage = self._stage(stages / "lexical", recipe)
            lexical_part.fit_lexical_part(
                self.tables, len(self.job.labels), recipe, lexical_stage, self.progress, self._lexical_start()
            )
            lexical_tensors = lexical_part.read_lexical_tensors(lexical_stage, len(self.job.labels))
        network, _results = self.train_network(recipe, stages)
        encoder = getattr(network.body, "encoder", self.modality.encoder)
        folder = self.job.workdir / ARTIFACT
        if process_group.is_first_process():
            shutil.rmtree(folder, ignore_errors=True)
            export.write_artifact(
                folder,
                recipe=recipe,
                labels=self.job.labels,
                head=self._head_for_all_labels(network.folded_head()),
                encoder=export.encoder_tensors(self.modality.pretrained(), merged_state(encoder), recipe),
                lexical=lexical_tensors,
            )
        self._copy_to_other_machines(folder)
        # The stored artifact answers, in half precision and int8, so its calibration and figures are those of serving.
        validation = self.modality.predict_split(folder, "validation")
        self._calibrate(folder, validation)
        test = self.modality.predict_split(folder, "test")
        if process_group.is_first_process():
            for split, logits in (("validation", validation), ("test", test)):
                write_predictions(self.job.workdir / f"{split}.npz", self.tables[split], logits, folder)
        process_group.wait_for_all()

    def _train_encoder(
        self, head_network: Network, recipe: Recipe, folder: Path, on_epoch: EpochCallback | None
    ) -> tuple[Network, dict[str, Any]]:
        """Train encoder and head together, from the head that was just trained."""
        encoder = copy.deepcopy(self.modality.encoder)
        torch.manual_seed(recipe.seed)
        unfreeze_layers(encoder, recipe)
        scale = Scale(head_network.mean.cpu(), head_network.std.cpu())
        network = Network(self.modality.body(encoder), copy.deepcopy(head_network.head), scale, recipe.dropout)
        task = TrainerTask(
            RunStage(f"{self.job.modality}_encoder"),
            network,
            self.modality.rows("train", self._targets("train", recipe), recipe),
            self.modality.rows("validation", self._targets("validation", recipe), recipe),
            recipe,
            joint=True,
            known=self.tables["train"].sources != FEEDBACK if self.start else None,
        )
        results = train_stage(task, self._stage(folder / "encoder", recipe), self.progress, on_epoch)
        self._log_results(task.name, results)
        return network, results

    def _calibrate(self, folder: Path, logits: SplitLogits) -> None:
        """Fit pool, length scales and temperature on the validation split and store them in the artifact."""
        if process_group.is_first_process():
            table = self.tables["validation"]
            targets = torch.from_numpy(table.targets)
            weights = torch.from_numpy(table.weights * rows_of_mixed_sources(table)).double()
            pool = scales = None
            if logits.lexical is not None:
                pool = self._fit_pool(logits.lexical, logits.encoder, targets, weights)
                self.progress.log(f"Pool: lexical {pool.lexical:.3f}, encoder {pool.encoder:.3f}")
            if logits.words is not None:
                scales = fit_length_scales(logits.combine(pool, None), logits.words, targets, weights)
            temperature = fit_temperature(logits.combine(pool, scales), targets, weights)
            self.progress.log(f"Temperature: {temperature:.3f}")
            if scales is not None and isinstance(self.job.recipe, TextRecipe):
                # After the temperature, which would undo it.
                scales = cautious_scales(scales, self.job.recipe.short_text_caution)
                self.progress.log(f"Length scales: {scales.divisors} up to {scales.most_words} words and beyond")
            export.store_calibration(folder, temperature=temperature, pool=pool, length_scales=scales)
        process_group.wait_for_all()

    def _fit_pool(self, lexical: Tensor, encoder: Tensor, targets: Tensor, weights: Tensor) -> LogitPool:
        """Return the pool with the recipe's share of the lexical part, or the fitted one where it has none."""
        recipe = self.job.recipe
        if isinstance(recipe, TextRecipe) and recipe.lexical_share is not None:
            return LogitPool(recipe.lexical_share, round(1 - recipe.lexical_share, 6))
        return fit_pool(lexical, encoder, targets, weights)

    def _copy_to_other_machines(self, folder: Path) -> None:
        """Give the other machines the artifact that the first process wrote."""
        names = (CONFIG, WEIGHTS)
        contents = [b"" for _name in names]
        if process_group.is_first_process():
            contents = [(folder / name).read_bytes() for name in names]
        contents = process_group.broadcast(contents)
        if process_group.is_first_local_process() and not process_group.is_first_process():
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in zip(names, contents, strict=True):
                replace_bytes(folder / name, content)
        process_group.wait_for_all()

    def _check_heads(self, recipe: Recipe) -> None:
        """Raise FitError unless the new head can take rows of the live model's: neither has a hidden layer."""
        if self.start is None or recipe.hidden or set(self.start.head) != {"0.weight", "0.bias"}:
            raise FitError(
                f"No product teaches {', '.join(self.unlearnt)}; they can be kept only where neither the recipe nor "
                "the live model has a hidden layer."
            )

    def _head_for_all_labels(self, head: nn.Sequential) -> nn.Sequential:
        """Return a head for all labels of the job: those that were not learnt keep the rows of the live model."""
        if not self.unlearnt:
            return head
        if self.start is None:
            raise FitError(f"No product teaches {', '.join(self.unlearnt)}, and there is no model to keep them from.")
        return extended_head(head, self.learnt, self.start.head, self.start.labels, self.job.labels)

    def _lexical_start(self) -> LexicalModel | None:
        """Return the live model's lexical part, its columns in the order of the job's labels."""
        if self.start is None or self.start.lexical is None:
            return None
        return lexical_part.reorder_columns(self.start.lexical, self.start.labels, self.job.labels)

    def _targets(self, split: str, recipe: Recipe) -> RowTargets:
        table = self.tables[split]
        learnt_columns = np.array([self.job.labels.index(label) for label in self.learnt])
        class_power = recipe.class_power if split == "train" else 0.0
        weights = row_weights(table.sources, table.targets, source_power=recipe.source_power, class_power=class_power)
        return RowTargets(np.searchsorted(learnt_columns, table.targets), weights)

    def _stage(self, folder: Path, recipe: Recipe) -> Stage:
        return Stage(folder, self.job.fingerprint(recipe.to_json()))

    def _log_results(self, name: str, results: dict[str, Any]) -> None:
        self.progress.log(
            f"{name}: validation log-loss {results['validation_loss']:.4f}, accuracy {results['accuracy']:.4f} after "
            f"epoch {results['best_epoch']} of {results['epochs']}, {results['rate']} items/s"
        )

    def _load_starting_model(self) -> TextModel | ImageModel | None:
        """Return the live model that the job continues; None without one, or where its backbone is another."""
        if self.job.start is None:
            return None
        try:
            config = read_config(self.job.start)
            if config["backbone"] != self.job.recipe.backbone:
                self.progress.log(
                    f"The live model has another backbone ({config['backbone']}): training starts from the pretrained "
                    "one."
                )
                return None
            model_class = TextModel if self.job.modality == "text" else ImageModel
            return model_class.load(self.job.start, device="cpu")
        except ArtifactError as error:
            raise FitError(f"The model to continue from is unusable: {error}") from error


def write_predictions(path: Path, table: SplitTable, logits: SplitLogits, folder: Path) -> None:
    """Write keys, targets, probabilities and logits_before of one split, as the artifact in `folder` answers."""
    config = read_config(folder)
    pool = LogitPool.read(config) if logits.lexical is not None else None
    pooled = logits.combine(pool, LengthScales.read(config))
    probabilities = calibrate_logits(pooled, torch.empty(0), float(config["temperature"])).probabilities
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(
            file,
            keys=table.keys,
            targets=table.targets,
            probabilities=probabilities,
            logits_before=pooled.double().log_softmax(dim=1).float().numpy(),
        )
    unfinished.replace(path)
