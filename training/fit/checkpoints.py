"""Find the checkpoint that a killed stage continues from, and remember how much fits into the GPU's memory."""

import json
import shutil
from pathlib import Path

from training.fit import process_group
from training.fit.stages import write_json

COMPLETE = "complete"
MEMORY = "memory.json"


def mark_complete(folder: Path, step: int) -> None:
    """Mark the checkpoint of a step as complete. Every process calls it when it has written its files."""
    # The mark comes after all files of all processes: a checkpoint without it is never continued from.
    process_group.wait_for_all()
    if process_group.is_first_local_process():
        (folder / f"checkpoint-{step}" / COMPLETE).touch()


def last_checkpoint(folder: Path) -> str | None:
    """Return the last checkpoint that is complete on all machines; remove unfinished ones."""
    steps: set[int] = set()
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).is_file():
            steps.add(int(path.name.rpartition("-")[2]))
        elif process_group.is_first_local_process():
            shutil.rmtree(path, ignore_errors=True)
    common = set.intersection(*process_group.gather_all(steps))
    process_group.wait_for_all()
    return str(folder / f"checkpoint-{max(common)}") if common else None


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a finished stage."""
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)


def read_batch_parts(folder: Path, default: int) -> int:
    """Return in how many parts a batch is computed: `default`, or more where an earlier try ran out of memory."""
    try:
        parts = int(json.loads((folder / MEMORY).read_text())["parts"])
    except (OSError, KeyError, TypeError, ValueError):
        parts = default
    return max(process_group.gather_all(parts))


def write_batch_parts(folder: Path, parts: int) -> None:
    """Remember in how many parts a batch is computed."""
    write_json(folder / MEMORY, {"parts": parts})
