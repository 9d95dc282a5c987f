"""One training stage on transformers' Trainer: a head or an encoder, texts or pictures, one process or many."""

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import Sampler
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from training.fit import process_group
from training.fit.batches import EpochOrder, PhotoRows, SortedByLength, TrainingRows
from training.fit.networks import Network, parameter_groups
from training.fit.progress import FitError, Progress
from training.fit.recipes import ImageRecipe, Recipe
from training.fit.stages import Stage, replace_bytes, write_json

LEARNT = "learnt.safetensors"
COMPLETE = "complete"
MEMORY = "memory.json"

# A short memory of squared gradients: fine-tuning takes few steps.
BETAS = (0.9, 0.98)

# On a GPU, reading the loss waits for all work that is under way.
LOOK_AT_LOSS = 20

# Called with the epoch and its validation log-loss, in every process; may raise to end the stage.
Watcher = Callable[[int, float], None]


@dataclass(frozen=True)
class TrainerTask:
    """A stage: `joint` when the encoder learns with its head, else the head alone on embeddings."""

    name: str
    network: Network
    train: TrainingRows
    validation: TrainingRows
    recipe: Recipe
    joint: bool
    # Which rows the model that we go on from already knew, (n,) bool; see Recipe.replay_share.
    known: Any = None

    @property
    def batch_size(self) -> int:
        return min(self.recipe.batch_size if self.joint else self.recipe.head_batch_size, len(self.train))

    @property
    def epochs(self) -> int:
        return self.recipe.epochs if self.joint else self.recipe.head_epochs

    @property
    def patience(self) -> int:
        return self.recipe.patience if self.joint else self.recipe.head_patience


def train_stage(task: TrainerTask, stage: Stage, progress: Progress, watcher: Watcher | None = None) -> dict[str, Any]:
    """Train the task's network in place and return what came of it: validation_loss, accuracy, epochs, rate.

    The network ends with its best epoch's weights. A finished stage is read, an interrupted one goes on from its
    last checkpoint. Raises FitError when the loss is no number any more or one row is too much for the memory.
    """
    if stage.done is None:
        facts = _train(task, stage.folder, progress, watcher)
        if process_group.is_first_local_process():
            state = {name: value.detach().cpu().contiguous() for name, value in task.network.state_dict().items()}
            replace_bytes(stage.folder / LEARNT, save(state))
        facts = stage.finish(facts)
        if process_group.is_first_local_process():
            for checkpoint in stage.folder.glob("checkpoint-*"):
                shutil.rmtree(checkpoint, ignore_errors=True)
    else:
        facts = stage.done
        task.network.load_state_dict(load_file(stage.folder / LEARNT), strict=False)
    task.network.eval()
    return facts


def _train(task: TrainerTask, folder: Path, progress: Progress, watcher: Watcher | None) -> dict[str, Any]:
    beginning = {name: value.detach().cpu().clone() for name, value in task.network.state_dict().items()}
    parts = _parts(task, folder)
    while True:
        trainer = _Trainer(task, folder, progress, watcher, parts)
        try:
            trainer.train(resume_from_checkpoint=last_checkpoint(folder))
            return trainer.facts()
        except torch.OutOfMemoryError:
            if math.ceil(task.batch_size / process_group.world_size() / parts) <= 1:
                raise FitError(
                    f"One row at a time is too much for the GPU's memory in stage {task.name}: choose a smaller "
                    "backbone or the recipe head."
                ) from None
            parts *= 2
            write_json(folder / MEMORY, {"parts": parts})
            progress.say(f"Too little GPU memory: going on with each batch in {parts} parts.")
            if process_group.world_size() > 1:
                # The others wait in the middle of a step: all begin again, from the last checkpoint.
                raise FitError("Too little GPU memory: trying again with smaller batches.", permanent=False) from None
            trainer.free()
            task.network.load_state_dict(beginning, strict=False)


def _parts(task: TrainerTask, folder: Path) -> int:
    """Return in how many parts a batch is taken: the recipe's number, or what an earlier try was left with."""
    try:
        found = int(json.loads((folder / MEMORY).read_text())["parts"])
    except (OSError, KeyError, TypeError, ValueError):
        found = task.recipe.accumulation if task.joint else 1
    return max(process_group.gather_all(found))


def last_checkpoint(folder: Path) -> str | None:
    """Return the last checkpoint that was written whole, on all machines; half-written ones are removed."""
    steps: set[int] = set()
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).is_file():
            steps.add(int(path.name.rpartition("-")[2]))
        elif process_group.is_first_local_process():
            shutil.rmtree(path, ignore_errors=True)
    common = set.intersection(*process_group.gather_all(steps))
    process_group.wait_for_all()
    return str(folder / f"checkpoint-{max(common)}") if common else None


def uses_bf16(recipe: Recipe) -> bool:
    """Whether the encoder computes in bf16: it was asked for, or the processor does it at twice the speed."""
    if recipe.precision != "auto":
        return recipe.precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _arguments(task: TrainerTask, folder: Path, parts: int) -> TrainingArguments:
    recipe, on_gpu = task.recipe, torch.cuda.is_available()
    workers = _workers() if isinstance(task.train, PhotoRows) else 0
    share = math.ceil(task.batch_size / process_group.world_size() / parts)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=task.epochs,
        per_device_train_batch_size=share,
        per_device_eval_batch_size=share if on_gpu else min(share * 2, 512),
        gradient_accumulation_steps=parts,
        learning_rate=recipe.joint_head_rate if task.joint else recipe.head_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup if task.joint else 0.05,
        max_grad_norm=recipe.clip,
        bf16=task.joint and uses_bf16(recipe),
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        save_total_limit=2,
        save_on_each_node=True,
        load_best_model_at_end=True,
        metric_for_best_model="log_loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        label_names=["labels", "weights"],
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_pin_memory=on_gpu,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        ddp_timeout=int(process_group.PATIENCE.total_seconds()),
        seed=recipe.seed,
        use_cpu=not on_gpu,
        disable_tqdm=True,
        report_to="none",
        log_level="error",
        log_level_replica="error",
    )
    # Several GPUs are used through torchrun, one process each.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _workers() -> int:
    """How many processes read and vary pictures, for each training process on this machine."""
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(min(cores - 1, 8), 0) if not torch.cuda.is_available() else max(min(cores, 12), 1)


class _Trainer(Trainer):
    """The Trainer with our loss, our learning rates, our order of rows and our progress."""

    def __init__(
        self, task: TrainerTask, folder: Path, progress: Progress, watcher: Watcher | None, parts: int
    ) -> None:
        self.task = task
        self.recent: Tensor | None = None  # the loss, smoothed
        self.order = EpochOrder(
            len(task.train),
            batch_size=task.batch_size,
            seed=task.recipe.seed,
            lengths=task.train.lengths,
            known=task.known,
            known_share=task.recipe.replay_share if task.joint else None,
        )
        validation = task.validation
        super().__init__(
            model=task.network,
            args=_arguments(task, folder, parts),
            train_dataset=task.train,
            eval_dataset=validation if validation.lengths is None else SortedByLength(validation, validation.lengths),
            data_collator=_as_it_is,
            compute_metrics=_metrics,
            callbacks=[EarlyStoppingCallback(task.patience), _Follow(self, progress, watcher)],
        )
        self.pop_callback(PrinterCallback)
        # A loss is the mean of its batch.
        self.loss_is_scaled_for_ga = False

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            found = parameter_groups(self.task.network, self.task.recipe, joint=self.task.joint)
            self.optimizer = torch.optim.AdamW(found, betas=BETAS)
        return self.optimizer

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self.order

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        inputs = dict(inputs)
        labels, weights = inputs.pop("labels"), inputs.pop("weights")
        recipe = self.task.recipe
        if not model.training:
            logits = model(**inputs).float()
            loss = (cross_entropy(logits, labels, reduction="none") * weights).mean()
            return (loss, {"logits": logits}) if return_outputs else loss
        others, share = None, 1.0
        if isinstance(recipe, ImageRecipe) and recipe.mixup and "pixels" in inputs:
            others, share = (
                torch.randperm(len(labels), device=labels.device),
                float(np.random.default_rng(int(torch.randint(2**31, ()))).beta(recipe.mixup, recipe.mixup)),
            )
            inputs["pixels"] = share * inputs["pixels"].float() + (1 - share) * inputs["pixels"][others].float()
        logits = model(**inputs).float()
        loss = _loss(logits, labels, weights, recipe.label_smoothing)
        if others is not None:
            mixed = _loss(logits, labels[others], weights[others], recipe.label_smoothing)
            loss = share * loss + (1 - share) * mixed
        return (loss, {"logits": logits}) if return_outputs else loss

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        if loss.device.type == "cpu" or self.state.global_step % LOOK_AT_LOSS == 0:
            self._check(loss)
        whole = loss * self.current_gradient_accumulation_steps
        self.recent = whole if self.recent is None else 0.95 * self.recent + 0.05 * whole
        return loss

    def _check(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise FitError(
                f"The loss became {loss.item()} in stage {self.task.name} at step {self.state.global_step}: the "
                f"learning rate {'encoder_rate' if self.task.joint else 'head_rate'} of the recipe is too high."
            )

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Say nothing: a checkpoint holds only what is learnt, and the frozen rest is missing from it."""

    def facts(self) -> dict[str, Any]:
        """Return what the stage came to."""
        history = [entry for entry in self.state.log_history if "eval_log_loss" in entry]
        best = min(history, key=lambda entry: float(entry["eval_log_loss"]))
        last = self.state.log_history[-1]
        return {
            "validation_loss": best["eval_log_loss"],
            "accuracy": best["eval_accuracy"],
            "epochs": len(history),
            "best_epoch": round(best["epoch"]),
            "steps": self.state.global_step,
            "rate": round(float(last.get("train_samples_per_second", 0.0)), 1),
        }

    def free(self) -> None:
        """Let go of what fills the GPU's memory."""
        self.task.network.zero_grad(set_to_none=True)
        self.optimizer = self.lr_scheduler = None
        self.accelerator.free_memory()


class _Follow(TrainerCallback):
    """Tells progress, orders each epoch, and keeps checkpoints between the ends of epochs."""

    def __init__(self, trainer: _Trainer, progress: Progress, watcher: Watcher | None) -> None:
        self.trainer, self.progress, self.watcher = trainer, progress, watcher
        self.epoch_steps = 1

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.epoch_steps = max(state.max_steps // self.trainer.task.epochs, 1)
        self.progress.stage(self.trainer.task.name, state.max_steps, step=state.global_step)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.order.set_epoch(state.global_step // self.epoch_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        recent = self.trainer.recent
        self.progress.step(state.global_step, items=self.trainer.task.batch_size, loss=recent)
        ends_epoch = state.global_step % self.epoch_steps == 0
        if state.global_step % self.trainer.task.recipe.checkpoint_steps == 0 and not ends_epoch:
            control.should_save = True

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        loss = float(metrics["eval_log_loss"])
        if not math.isfinite(loss):
            self.trainer._check(torch.tensor(loss))
        self.progress.epoch(
            state.global_step, items=self.trainer.task.batch_size, loss=self.trainer.recent, validation_loss=loss
        )
        if self.watcher:
            self.watcher(round(state.epoch), loss)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Every process has written its part when the mark is made.
        process_group.wait_for_all()
        if process_group.is_first_local_process():
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def _loss(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    return (cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing) * weights).mean()


def _as_it_is(batch: Any) -> Any:
    return batch


def _metrics(prediction: Any) -> dict[str, float]:
    """Return the weighted log-loss and the accuracy of logits (n, classes)."""
    logits = torch.from_numpy(np.asarray(prediction.predictions)).double()
    labels, weights = (torch.from_numpy(np.asarray(values)) for values in prediction.label_ids)
    losses = cross_entropy(logits, labels, reduction="none")
    return {
        "log_loss": float((losses * weights).sum() / weights.sum()),
        "accuracy": float((logits.argmax(dim=1) == labels).double().mean()),
    }
