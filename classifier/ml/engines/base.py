"""The seam between a model and what computes its encoder's forward pass."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import Tensor, nn

Batch = tuple[Tensor, ...]  # what a network takes, on the CPU: each tensor begins with the rows


class EngineError(Exception):
    """An engine that can't be built or doesn't compute what the reference does; the message says why."""


class Engine(Protocol):
    """Computes unit embeddings (n, dim) float32 of batches. Several threads may call it at once."""

    name: str  # library, precision and device: "openvino bf16 cpu"
    rows: int  # the most rows of a batch
    streams: int  # how many batches are computed at once
    step: int  # texts are padded to a multiple of this, so that shapes repeat

    def run(self, batches: Iterable[Batch]) -> list[Tensor]:
        """Return each batch's embeddings, in order. A batch is asked for while those before it are computed."""


class Encoder(Protocol):
    """A model's part in front of its head."""

    engine: Engine
    network: nn.Module
    inputs: Sequence[str]  # the names of the network's arguments

    def samples(self) -> list[Batch]:
        """Return made-up inputs of several shapes, always the same."""

    def use(self, engine: Engine) -> None:
        """Compute with this engine from now on; the network is let go."""
