"""Compute the encoders: with torch, the reference, or with OpenVINO on a CPU, converted from the same weights."""

from classifier.ml.engines.base import Batch, Encoder, Engine
from classifier.ml.engines.choice import engine_candidates, fast_precisions, library_version, select_engine
from classifier.ml.engines.reference import TorchEngine
from classifier.ml.engines.threads import input_threads, usable_cores

__all__ = [
    "Batch",
    "Encoder",
    "Engine",
    "TorchEngine",
    "engine_candidates",
    "fast_precisions",
    "input_threads",
    "library_version",
    "select_engine",
    "usable_cores",
]
