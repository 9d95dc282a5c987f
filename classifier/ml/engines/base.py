"""Define the interface between a model and the engine that computes its encoder."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import Tensor, nn

Batch = tuple[Tensor, ...]  # a network's arguments, on the CPU; the first axis of each is the rows


class EngineError(Exception):
    """An engine that can't be built or that disagrees with the reference; the message says why."""


class Engine(Protocol):
    """Computes unit embeddings (n, dim) float32 of batches. Safe to be called by several threads."""

    name: str  # library, precision and device: "openvino bf16 cpu"
    rows: int  # the most rows of a batch
    streams: int  # how many batches are computed at once
    step: int  # texts are padded to a multiple of this, so that shapes repeat

    def run(self, batches: Iterable[Batch]) -> list[Tensor]:
        """Return each batch's embeddings, in order. The next batch is prepared while the last one is computed."""


class Encoder(Protocol):
    """The part of a model that computes embeddings."""

    engine: Engine
    network: nn.Module
    inputs: Sequence[str]  # the names of the network's arguments

    def samples(self) -> list[Batch]:
        """Return generated inputs of several shapes, always the same, to compare engines on."""

    def use(self, engine: Engine) -> None:
        """Compute with this engine from now on, and release the network."""
