"""Run networks with torch. In float32 on a CPU it is the reference for every other engine."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from classifier.ml.engines.base import Batch


class TorchEngine:
    """An engine that runs the network as it is."""

    streams = 1

    def __init__(self, network: nn.Module, device: torch.device, rows: int, precision: str = "f32") -> None:
        self.network = network.to(device, torch.bfloat16 if precision == "bf16" else torch.float32)
        self.device = device
        self.rows = rows
        self.name = f"torch {precision} {device.type}"
        # A GPU keeps memory and kernel choices for each shape, so that few shapes are fast.
        self.fixed_shapes = device.type == "cuda"
        self.step = 16 if self.fixed_shapes else 1

    @torch.inference_mode()
    def run(self, batches: Iterable[Batch]) -> list[Tensor]:
        return [self._embed(batch) for batch in batches]

    def _embed(self, batch: Batch) -> Tensor:
        count = len(batch[0])
        if self.fixed_shapes:
            wanted = min(1 << (count - 1).bit_length(), max(self.rows, count))
            batch = tuple(torch.cat([t, t[-1:].expand(wanted - count, *t.shape[1:])]) for t in batch)
        embeddings: Tensor = self.network(*(tensor.to(self.device, non_blocking=True) for tensor in batch))
        return embeddings[:count]
