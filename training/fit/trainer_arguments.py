"""Translate a recipe into the TrainingArguments of transformers' Trainer."""

import math
import os
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from training.fit import process_group
from training.fit.recipes import Recipe

MAX_EVALUATION_BATCH = 512


class SingleDeviceArguments(TrainingArguments):
    """Arguments of a Trainer that uses one GPU: several are used through torchrun, one process each."""

    @property
    def n_gpu(self) -> int:
        """The number of GPUs of this process; the Trainer would wrap the network in DataParallel for more than one."""
        return min(int(super().n_gpu), 1)


def trainer_arguments(
    recipe: Recipe, folder: Path, *, joint: bool, batch_size: int, epochs: int, parts: int, reads_photos: bool
) -> TrainingArguments:
    """Return the arguments of a stage; `parts` is in how many parts each process takes its share of a batch."""
    on_gpu = torch.cuda.is_available()
    workers = _loader_processes() if reads_photos else 0
    rows_at_once = math.ceil(batch_size / process_group.world_size() / parts)
    return SingleDeviceArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=rows_at_once,
        per_device_eval_batch_size=rows_at_once if on_gpu else min(rows_at_once * 2, MAX_EVALUATION_BATCH),
        gradient_accumulation_steps=parts,
        learning_rate=recipe.joint_head_rate if joint else recipe.head_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup if joint else 0.05,
        max_grad_norm=recipe.clip,
        bf16=joint and uses_bf16(recipe),
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
        ddp_timeout=int(process_group.TIMEOUT.total_seconds()),
        seed=recipe.seed,
        use_cpu=not on_gpu,
        disable_tqdm=True,
        report_to="none",
        log_level="error",
        log_level_replica="error",
    )


def uses_bf16(recipe: Recipe) -> bool:
    """Return whether the encoder computes in bf16: the recipe asks for it, or the processor is twice as fast at it."""
    if recipe.precision != "auto":
        return recipe.precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _loader_processes() -> int:
    """Return how many processes decode and augment photos for each training process on this machine."""
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if torch.cuda.is_available():
        return max(min(cores, 12), 1)
    return max(min(cores - 1, 8), 0)
