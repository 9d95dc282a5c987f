"""The processes that fit one model together: torchrun's ranks, or this process alone."""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

# One process may work alone for long, on the lexical part say, while the others wait for it.
PATIENCE = timedelta(hours=12)


def join_group() -> None:
    """Meet the other processes when torchrun started this one; gloo on CPUs, NCCL on GPUs."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        # Objects travel by gloo, gradients by NCCL.
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE)
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)


def leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first_process() -> bool:
    """Whether this is the process that writes progress and results."""
    return rank() == 0


def is_first_local_process() -> bool:
    """Whether this is the process that writes this machine's caches and checkpoints."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0 or not dist.is_initialized()


def wait_for_all() -> None:
    """Return when every process has come this far."""
    if dist.is_initialized():
        dist.barrier()


def broadcast(value: T) -> T:
    """Return what the first process gave, in every process."""
    if not dist.is_initialized():
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    told: T = box[0]
    return told


def gather_all(value: T) -> list[T]:
    """Return what every process gave, by rank, in every process."""
    if not dist.is_initialized():
        return [value]
    boxes: list[Any] = [None] * world_size()
    dist.all_gather_object(boxes, value)
    return boxes


def share_of_rows(rows: Sequence[T]) -> Sequence[T]:
    """Return this process's part of the rows: a run of neighbours. The parts differ by at most one row."""
    start, end = (len(rows) * place // world_size() for place in (rank(), rank() + 1))
    return rows[start:end]
