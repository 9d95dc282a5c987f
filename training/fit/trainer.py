"""Train one stage with transformers' Trainer: a head or an encoder, texts or photos, in one process or many."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback
from transformers.trainer_utils import seed_worker

from training.fit import process_group
from training.fit.batches import EpochOrder, PhotoRows, SortedByLength, TrainingRows
from training.fit.checkpoints import (
    last_checkpoint,
    mark_complete,
    read_batch_parts,
    remove_checkpoints,
    write_batch_parts,
)
from training.fit.networks import Network, parameter_groups
from training.fit.progress import FitError, Progress
from training.fit.recipes import ImageRecipe, Recipe
from training.fit.stage_codes import RunStage
from training.fit.stages import Stage, replace_bytes
from training.fit.trainer_arguments import trainer_arguments

LEARNT = "learnt.safetensors"

# Fine-tuning takes few steps, so AdamW's average of squared gradients must forget sooner than its default of 0.999.
BETAS = (0.9, 0.98)

# Reading the loss from a GPU waits for all queued work, so it is checked once in so many steps there.
LOSS_CHECK_STEPS = 20

# Called with the epoch and its validation log-loss, in every process; may raise to end the stage.
EpochCallback = Callable[[int, float], None]


@dataclass(frozen=True)
class TrainerTask:
    """What a stage trains: `joint` when the encoder learns with its head, else the head alone on embeddings."""

    stage: RunStage
    network: Network
    train: TrainingRows
    validation: TrainingRows
    recipe: Recipe
    joint: bool
    # Which rows the model that is continued already knew, (n,) bool; see Recipe.replay_share.
    known: Any = None

    @property
    def name(self) -> str:
        """The stage's name in messages."""
        return self.stage.replace("_", " ")

    @property
    def batch_size(self) -> int:
        """Rows of a step over all processes."""
        return min(self.recipe.batch_size if self.joint else self.recipe.head_batch_size, len(self.train))

    @property
    def epochs(self) -> int:
        """The most epochs that the stage takes."""
        return self.recipe.epochs if self.joint else self.recipe.head_epochs

    @property
    def patience(self) -> int:
        """Epochs without a better validation log-loss after which the stage ends."""
        return self.recipe.patience if self.joint else self.recipe.head_patience


def train_stage(
    task: TrainerTask, stage: Stage, progress: Progress, on_epoch: EpochCallback | None = None
) -> dict[str, Any]:
    """Train the task's network in place and return the results: validation_loss, accuracy, epochs, rate.

    The network ends with its best epoch's weights. The results of a finished stage are read, an interrupted stage
    continues from its last checkpoint. Raises FitError when the loss is no longer finite or one row is too much for
    the memory.
    """
    if stage.done is None:
        results = _train_within_memory(task, stage.folder, progress, on_epoch)
        if process_group.is_first_local_process():
            state = {name: value.detach().cpu().contiguous() for name, value in task.network.state_dict().items()}
            replace_bytes(stage.folder / LEARNT, save(state))
        results = stage.finish(results)
        if process_group.is_first_local_process():
            remove_checkpoints(stage.folder)
    else:
        results = stage.done
        task.network.load_state_dict(load_file(stage.folder / LEARNT))
    task.network.eval()
    return results


def _train_within_memory(
    task: TrainerTask, folder: Path, progress: Progress, on_epoch: EpochCallback | None
) -> dict[str, Any]:
    """Train, computing each batch in twice as many parts whenever the GPU's memory is too small."""
    initial_state = {name: value.detach().cpu().clone() for name, value in task.network.state_dict().items()}
    parts = read_batch_parts(folder, task.recipe.accumulation if task.joint else 1)
    while True:
        trainer = _StageTrainer(task, folder, progress, on_epoch, parts)
        try:
            trainer.train(resume_from_checkpoint=last_checkpoint(folder))
            return trainer.results()
        except torch.OutOfMemoryError:
            if math.ceil(task.batch_size / process_group.world_size() / parts) <= 1:
                raise FitError(
                    f"One row at a time is too much for the GPU's memory in stage {task.name}: choose a smaller "
                    "backbone or the recipe head."
                ) from None
            parts *= 2
            write_batch_parts(folder, parts)
            progress.log(f"Too little GPU memory: continuing with each batch in {parts} parts.")
            if process_group.world_size() > 1:
                # The others wait in the middle of a step: all start again, from the last checkpoint.
                raise FitError("Too little GPU memory: trying again with smaller batches.", permanent=False) from None
            trainer.free_memory()
            task.network.load_state_dict(initial_state)


class _StageTrainer(Trainer):
    """The Trainer with Aisle's loss, learning rates, order of rows and progress."""

    def __init__(
        self, task: TrainerTask, folder: Path, progress: Progress, on_epoch: EpochCallback | None, parts: int
    ) -> None:
        self.task = task
        self.smoothed_loss: Tensor | None = None
        self.order = EpochOrder(
            len(task.train),
            batch_size=task.batch_size,
            seed=task.recipe.seed,
            lengths=task.train.lengths,
            known=task.known,
            known_share=task.recipe.replay_share if task.joint else None,
        )
        validation = task.validation
        if validation.lengths is not None:
            validation = SortedByLength(validation, validation.lengths)
        super().__init__(
            model=task.network,
            args=trainer_arguments(
                task.recipe,
                folder,
                joint=task.joint,
                batch_size=task.batch_size,
                epochs=task.epochs,
                parts=parts,
                reads_photos=isinstance(task.train, PhotoRows),
            ),
            train_dataset=task.train,
            eval_dataset=validation,
            data_collator=_keep_batch,
            compute_metrics=_compute_metrics,
            callbacks=[EarlyStoppingCallback(task.patience), _StageCallback(self, progress, on_epoch)],
        )
        self.pop_callback(PrinterCallback)
        # `compute_loss` returns the mean of its part of a batch, which the Trainer has to divide by the parts.
        self.loss_is_scaled_for_ga = False

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            groups = parameter_groups(self.task.network, self.task.recipe, joint=self.task.joint)
            self.optimizer = torch.optim.AdamW(groups, betas=BETAS)
        return self.optimizer

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the loader that reads the rows in the order of `EpochOrder`; each process reads its share."""
        loader = DataLoader(
            self.task.train,
            batch_size=self.args.train_batch_size,
            sampler=self.order,
            collate_fn=_keep_batch,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            worker_init_fn=partial(
                seed_worker, num_workers=self.args.dataloader_num_workers, rank=self.args.process_index
            ),
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        inputs = dict(inputs)
        labels, weights = inputs.pop("labels"), inputs.pop("weights")
        if model.training:
            logits, loss = self._training_loss(model, inputs, labels, weights)
        else:
            logits = model(**inputs).float()
            loss = weighted_loss(logits, labels, weights)
        return (loss, {"logits": logits}) if return_outputs else loss

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        if loss.device.type == "cpu" or self.state.global_step % LOSS_CHECK_STEPS == 0:
            self.check_loss(float(loss))
        batch_loss = loss * self.current_gradient_accumulation_steps
        if self.smoothed_loss is None:
            self.smoothed_loss = batch_loss
        else:
            self.smoothed_loss = 0.95 * self.smoothed_loss + 0.05 * batch_loss
        return loss

    def check_loss(self, loss: float) -> None:
        """Raise FitError for a loss that is not finite."""
        if not math.isfinite(loss):
            raise FitError(
                f"The loss became {loss} in stage {self.task.name} at step {self.state.global_step}: the "
                f"learning rate {'encoder_rate' if self.task.joint else 'head_rate'} of the recipe is too high."
            )

    def results(self) -> dict[str, Any]:
        """Return the results of the stage."""
        evaluations = [entry for entry in self.state.log_history if "eval_log_loss" in entry]
        best = min(evaluations, key=lambda entry: float(entry["eval_log_loss"]))
        last = self.state.log_history[-1]
        return {
            "validation_loss": best["eval_log_loss"],
            "accuracy": best["eval_accuracy"],
            "epochs": len(evaluations),
            "best_epoch": round(best["epoch"]),
            "steps": self.state.global_step,
            "rate": round(float(last.get("train_samples_per_second", 0.0)), 1),
        }

    def free_memory(self) -> None:
        """Release what this trainer holds in the GPU's memory."""
        self.task.network.zero_grad(set_to_none=True)
        self.optimizer = self.lr_scheduler = None
        self.accelerator.free_memory()

    def _training_loss(
        self, model: Any, inputs: dict[str, Tensor], labels: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the logits of a training batch and its loss, with mixup where the recipe asks for it."""
        recipe = self.task.recipe
        if not (isinstance(recipe, ImageRecipe) and recipe.mixup and "pixels" in inputs):
            logits = model(**inputs).float()
            return logits, weighted_loss(logits, labels, weights, recipe.label_smoothing)
        others = torch.randperm(len(labels), device=labels.device)
        # Seeded from torch, whose state a checkpoint restores.
        random = np.random.default_rng(int(torch.randint(2**31, ())))
        share = float(random.beta(recipe.mixup, recipe.mixup))
        inputs["pixels"] = share * inputs["pixels"].float() + (1 - share) * inputs["pixels"][others].float()
        logits = model(**inputs).float()
        own = weighted_loss(logits, labels, weights, recipe.label_smoothing)
        mixed_in = weighted_loss(logits, labels[others], weights[others], recipe.label_smoothing)
        return logits, share * own + (1 - share) * mixed_in


class _StageCallback(TrainerCallback):
    """Reports progress, orders each epoch, and saves checkpoints between the ends of epochs too."""

    def __init__(self, trainer: _StageTrainer, progress: Progress, on_epoch: EpochCallback | None) -> None:
        self.trainer, self.progress, self.on_epoch = trainer, progress, on_epoch
        self.epoch_steps = 1

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.epoch_steps = max(state.max_steps // self.trainer.task.epochs, 1)
        self.progress.start_stage(self.trainer.task.stage, state.max_steps, step=state.global_step)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # From the step, not from a counter: a stage that continues from a checkpoint begins in a later epoch.
        self.trainer.order.set_epoch(state.global_step // self.epoch_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        task = self.trainer.task
        self.progress.report_step(state.global_step, items=task.batch_size, loss=self.trainer.smoothed_loss)
        ends_epoch = state.global_step % self.epoch_steps == 0
        if state.global_step % task.recipe.checkpoint_steps == 0 and not ends_epoch:
            control.should_save = True

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        loss = float(metrics["eval_log_loss"])
        self.trainer.check_loss(loss)
        self.progress.report_epoch(
            state.global_step,
            items=self.trainer.task.batch_size,
            loss=self.trainer.smoothed_loss,
            validation_loss=loss,
        )
        if self.on_epoch:
            self.on_epoch(round(state.epoch), loss)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        mark_complete(Path(args.output_dir), state.global_step)


def weighted_loss(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean of the rows' weighted cross-entropies."""
    return (cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing) * weights).mean()


def _keep_batch(batch: Any) -> Any:
    """Return the batch as it is: `TrainingRows` reads whole batches."""
    return batch


def _compute_metrics(prediction: Any) -> dict[str, float]:
    """Return the weighted log-loss and the accuracy of logits (n, classes)."""
    logits = torch.from_numpy(np.asarray(prediction.predictions)).double()
    labels, weights = (torch.from_numpy(np.asarray(values)) for values in prediction.label_ids)
    losses = cross_entropy(logits, labels, reduction="none")
    return {
        "log_loss": float((losses * weights).sum() / weights.sum()),
        "accuracy": float((logits.argmax(dim=1) == labels).double().mean()),
    }
