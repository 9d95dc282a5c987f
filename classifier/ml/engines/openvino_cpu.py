"""Convert networks to OpenVINO and run them on the CPU."""

import sys
import threading
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from classifier.ml.engines.base import Batch

if TYPE_CHECKING:
    import openvino

ROWS = 8
_one_thread = threading.Lock()


class OpenVinoEngine:
    """An engine with as many streams as threads, each with one thread.

    A batch stays on one thread, so that none waits for a slower one on a busy machine.
    """

    rows = ROWS
    step = 8

    def __init__(self, model: "openvino.Model", precision: str, threads: int) -> None:
        """Raises RuntimeError when the model can't be compiled."""
        self.name = f"openvino {precision} cpu"
        self.streams = threads
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "EXECUTION_MODE_HINT": "PERFORMANCE",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            # With pinning, two workers would bind their threads to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled: Any = openvino_core().compile_model(model, "CPU", settings)
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="openvino")

    def run(self, batches: Iterable[Batch]) -> list[Tensor]:
        return list(self._threads.map(self._embed, batches))

    def _embed(self, batch: Batch) -> Tensor:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        results = self._own.request.infer([tensor.numpy() for tensor in batch], share_inputs=True)
        return torch.from_numpy(results[0])


@cache
def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which is a package of its own: nothing is counted or sent."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    with _one_thread:  # two threads that use its table of types for the first time deadlock
        openvino.Type.f32.to_dtype()
    return openvino


@cache
def openvino_core() -> "openvino.Core":
    return import_openvino().Core()


@cache
def openvino_version() -> str:
    return str(import_openvino().__version__).split("-")[0]


@cache
def has_bf16() -> bool:
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def convert_network(network: nn.Module, inputs: Sequence[str], example: Batch) -> "openvino.Model":
    """Return the network with any number of rows, and any length where the example has two dimensions.

    Raises RuntimeError and what tracing the network raises.
    """
    ov = import_openvino()
    shapes = {name: [-1, *([-1] if t.dim() == 2 else t.shape[1:])] for name, t in zip(inputs, example, strict=True)}
    with torch.inference_mode(), warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")  # tracing warns of each branch that it takes
        return ov.convert_model(
            network, input=list(shapes.items()), example_input=dict(zip(inputs, example, strict=True))
        )


def _quiet() -> Any:
    """Keep transformers' warnings about a traced network out of a worker's log."""
    if "transformers" not in sys.modules:
        return nullcontext()
    from classifier.ml.encoders import quiet_transformers

    return quiet_transformers()
