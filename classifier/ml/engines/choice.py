"""Choose the engine of an encoder: the first candidate that can be built and agrees with the reference."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from classifier.ml.engines import openvino_cpu
from classifier.ml.engines.base import Encoder, Engine, EngineError
from classifier.ml.engines.converted import load_or_convert
from classifier.ml.engines.reference import TorchEngine

log = logging.getLogger(__name__)

# The least cosine between an engine's embedding of a sample and the reference's: rounding stays far above it, a broken
# conversion far below. `manage.py check_engine` measures how often predictions agree.
LEAST_COSINE = {"f32": 0.9999, "bf16": 0.95}


def engine_candidates(engine: str, precision: str, device: torch.device, checks: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the engines to try, best first; the last is the reference.

    `engine` is auto, torch or openvino; `precision` auto, f32 or bf16. `checks` holds the results of
    `manage.py check_engine` for the version. An engine that failed is left out; with `auto`, bf16 is used only where it
    has passed.
    """
    kind = "openvino" if device.type == "cpu" and engine != "torch" else "torch"
    names = [
        f"{kind} {wanted} {device.type}"
        for wanted in fast_precisions(kind, device)
        if precision in ("auto", wanted) and (wanted != "bf16" or precision == "bf16" or _passed(checks, kind, device))
    ]
    reference = f"torch f32 {device.type}"
    names = [name for name in names if name != reference and _valid_check(checks, name).get("passed", True)]
    return (*names, reference)


def fast_precisions(kind: str, device: torch.device) -> tuple[str, ...]:
    """Return the precisions that the device computes fast, the fastest first."""
    has_bf16 = openvino_cpu.has_bf16() if kind == "openvino" else device.type == "cuda"
    return ("bf16", "f32") if has_bf16 else ("f32",)


def library_version(name: str) -> str:
    """Return the version of the engine's library; checks of another version are not valid for it."""
    return openvino_cpu.openvino_version() if name.startswith("openvino") else str(torch.__version__)


def select_engine(encoder: Encoder, names: Sequence[str], *, threads: int, cache: Path) -> None:
    """Give the encoder the first of the named engines that can be built and agrees with the reference.

    The reason against an engine is logged, and the next one is tried; the reference is the last.
    """
    for name in names:
        if name == encoder.engine.name:
            return
        try:
            encoder.use(_build(encoder, name, threads, cache))
            return
        except EngineError as error:
            log.error("%s can't be used: %s", name, error)


def _build(encoder: Encoder, name: str, threads: int, cache: Path) -> Engine:
    kind, precision, device = name.split()
    if kind == "torch":
        return TorchEngine(encoder.network, torch.device(device), encoder.engine.rows, precision)
    try:
        source = load_or_convert(encoder, cache)
        engine = openvino_cpu.OpenVinoEngine(source.model, precision, threads)
        found = np.concatenate([embeddings.numpy() for embeddings in engine.run(encoder.samples())])
    except Exception as error:  # conversion runs the libraries' code: on any error of theirs the reference is used
        raise EngineError(f"{type(error).__name__}: {error}") from error
    # Rows are unit vectors, so that the dot product is the cosine. "not >=" also refuses NaN.
    cosines = (found * source.reference).sum(axis=1)
    if not cosines.min() >= LEAST_COSINE[precision]:
        raise EngineError(f"its embeddings are not the reference's (least cosine {cosines.min():.4f})")
    return engine


def _passed(checks: Mapping[str, Any], kind: str, device: torch.device) -> bool:
    return bool(_valid_check(checks, f"{kind} bf16 {device.type}").get("passed"))


def _valid_check(checks: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    check = checks.get(name, {})
    return check if check.get("library") == library_version(name) else {}
