"""Compute tokens and frozen embeddings once and keep them, memory-mapped, in WORKDIR."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from classifier.ml.image_model import ImageEncoder
from classifier.ml.text_model import TextEncoder, join_text
from training.fit import process_group
from training.fit.job import SplitTable
from training.fit.progress import FitError, Progress
from training.fit.stage_codes import RunStage
from training.fit.stages import Stage

Floats = npt.NDArray[np.float32]

TEXTS_PER_STEP = 512
IMAGES_PER_STEP = 64


@dataclass(frozen=True)
class Tokens:
    """Token ids of many texts in one long array; text `row` is `ids[starts[row]:starts[row + 1]]`."""

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The number of tokens of each text."""
        return np.diff(self.starts)

    def row(self, row: int) -> npt.NDArray[np.int32]:
        """Return the token ids of one text."""
        return self.ids[self.starts[row] : self.starts[row + 1]]


def read_texts(table: SplitTable, start: int, end: int) -> tuple[list[str], list[str]]:
    """Return the titles and descriptions of rows start to end of the table."""
    cells = table.data[table.rows[start:end]]
    return [title or "" for title in cells["title"]], [text or "" for text in cells["description"]]


def read_images(table: SplitTable, rows: Sequence[int]) -> list[Image.Image]:
    """Return the photos of the table's rows. Raises FitError for one that cannot be read."""
    cells = table.data[table.rows[list(rows)]]
    return [open_image(photo, table.keys[row]) for row, photo in zip(rows, cells["photo"], strict=True)]


def open_image(photo: Any, key: str) -> Image.Image:
    """Decode a stored photo. Raises FitError that names its product when it is unreadable."""
    content = photo["bytes"] if isinstance(photo, dict) else photo
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (OSError, TypeError, ValueError) as error:
        raise FitError(f"The photo of {key} cannot be read ({error}): make the dataset again.") from error
    return image


def tokenize_table(table: SplitTable, tokenizer: Any, max_tokens: int, stage: Stage, progress: Progress) -> Tokens:
    """Return the tokens of each row, cut to `max_tokens`, from the stage's files if it is done."""
    if stage.done is None:
        progress.start_stage(RunStage(f"tokens_{table.split}"), len(table))
        if process_group.is_first_local_process():
            _write_tokens(table, tokenizer, max_tokens, stage.folder, progress)
        stage.finish({"rows": len(table)})
    return Tokens(
        np.load(stage.folder / "ids.npy", mmap_mode="r"), np.load(stage.folder / "starts.npy", allow_pickle=False)
    )


def _write_tokens(table: SplitTable, tokenizer: Any, max_tokens: int, folder: Path, progress: Progress) -> None:
    lengths: list[int] = []
    unfinished = folder / "ids.raw"
    with unfinished.open("wb") as file:
        for start in range(0, len(table), TEXTS_PER_STEP):
            titles, descriptions = read_texts(table, start, start + TEXTS_PER_STEP)
            joined = [join_text(*pair) for pair in zip(titles, descriptions, strict=True)]
            for ids in tokenizer(joined, truncation=True, max_length=max_tokens)["input_ids"]:
                lengths.append(len(ids))
                file.write(np.array(ids, np.int32).tobytes())
            progress.report_step(len(lengths))
    # Only a file with NumPy's header can be memory-mapped by np.load, and its length is known only now.
    ids = np.lib.format.open_memmap(folder / "ids.npy", mode="w+", dtype=np.int32, shape=(sum(lengths),))
    if lengths:
        ids[:] = np.memmap(unfinished, np.int32, mode="r")
    ids.flush()
    np.save(folder / "starts.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    unfinished.unlink()


def embed_texts(table: SplitTable, encoder: TextEncoder, stage: Stage, progress: Progress) -> Floats:
    """Return unit embeddings (n, dim) float32 of each row; every process computes its share."""

    def encode_rows(rows: Sequence[int]) -> Iterator[Tensor]:
        for start in range(0, len(rows), TEXTS_PER_STEP):
            titles, descriptions = read_texts(
                table, rows[0] + start, min(rows[0] + start + TEXTS_PER_STEP, rows[-1] + 1)
            )
            yield encoder.encode([join_text(*pair) for pair in zip(titles, descriptions, strict=True)]).cpu()

    return _embed_shares(table, encode_rows, stage, progress)


def embed_images(table: SplitTable, encoder: ImageEncoder, stage: Stage, progress: Progress) -> Floats:
    """Return unit embeddings (n, dim) float32 of each row; every process computes its share."""

    def encode_rows(rows: Sequence[int]) -> Iterator[Tensor]:
        for start in range(0, len(rows), IMAGES_PER_STEP):
            yield encoder.encode(read_images(table, rows[start : start + IMAGES_PER_STEP])).cpu()

    return _embed_shares(table, encode_rows, stage, progress)


def _embed_shares(
    table: SplitTable, encode_rows: Callable[[Sequence[int]], Iterator[Tensor]], stage: Stage, progress: Progress
) -> Floats:
    path = stage.folder / "embeddings.npy"
    if stage.done is None:
        own_rows = process_group.share_of_rows(range(len(table)))
        progress.start_stage(RunStage(f"embeddings_{table.split}"), len(own_rows))
        batches: list[Tensor] = []
        if len(own_rows):
            for batch in encode_rows(own_rows):
                batches.append(batch)
                progress.report_step(sum(map(len, batches)), items=process_group.world_size())
        shares = process_group.gather_all(torch.cat(batches).numpy() if batches else None)
        if process_group.is_first_local_process():
            np.save(path, np.concatenate([share for share in shares if share is not None]))
        stage.finish({"rows": len(table)})
    embeddings: Floats = np.load(path, mmap_mode="r")
    return embeddings
