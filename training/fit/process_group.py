"""Coordinate the processes that fit one model together: torchrun's ranks, or this process alone."""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

# One process may work alone for hours, on the lexical part for instance, while the others wait for it.
TIMEOUT = timedelta(hours=12)


def join_group() -> None:
    """Join the other processes when torchrun started this one; gloo on CPUs, NCCL on GPUs."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        # Python objects travel by gloo, gradients by NCCL.
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=TIMEOUT)
    else:
        dist.init_process_group("gloo", timeout=TIMEOUT)


def leave_group() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Return this process's number in the group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return how many processes the group has."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first_process() -> bool:
    """Return whether this process writes progress and results."""
    return rank() == 0


def is_first_local_process() -> bool:
    """Return whether this process writes this machine's caches and checkpoints."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0 or not dist.is_initialized()


def wait_for_all() -> None:
    """Return when every process has come this far."""
    if dist.is_initialized():
        dist.barrier()


def broadcast(value: T) -> T:
    """Return the first process's value in every process."""
    if not dist.is_initialized():
        return value
    values: list[Any] = [value]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    first: T = values[0]
    return first


def gather_all(value: T) -> list[T]:
    """Return the values of all processes, by rank, in every process."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def share_of_rows(rows: Sequence[T]) -> Sequence[T]:
    """Return this process's share of the rows, consecutive ones. Shares differ by at most one row."""
    start = len(rows) * rank() // world_size()
    end = len(rows) * (rank() + 1) // world_size()
    return rows[start:end]
