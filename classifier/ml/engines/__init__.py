"""What runs the encoders: torch, which is the reference, or OpenVINO on a CPU, converted from the same weights."""

from classifier.ml.engines.base import Batch, Encoder, Engine
from classifier.ml.engines.choice import candidates, library, precisions, speed_up
from classifier.ml.engines.reference import TorchEngine
from classifier.ml.engines.threads import cores, pool

__all__ = [
    "Batch",
    "Encoder",
    "Engine",
    "TorchEngine",
    "candidates",
    "cores",
    "library",
    "pool",
    "precisions",
    "speed_up",
]
