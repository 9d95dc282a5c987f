"""Fitting a model on a corpus: `python -m training.fit WORKDIR`, alone or under torchrun. Knows nothing of Django."""

import os

# Read by the Hugging Face libraries at their import: nothing is fetched unless the operator opens the hub.
_SHUT = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
for _name in (*_SHUT, "HF_DATASETS_DISABLE_PROGRESS_BARS"):
    os.environ.setdefault(_name, "1")

# Read by torch's threads at its import. Threads that spin while they wait halve the speed of all others; with another
# busy process on the machine they cost ten times as much.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
