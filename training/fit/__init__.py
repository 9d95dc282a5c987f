"""Fit a model on a corpus, without Django: `python -m training.fit WORKDIR`, alone or under torchrun."""

import os

# The Hugging Face libraries read these when they are imported: nothing is downloaded unless the operator allows it.
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
for _name in (*_OFFLINE, "HF_DATASETS_DISABLE_PROGRESS_BARS"):
    os.environ.setdefault(_name, "1")

# torch's threads read this when it is imported. Threads that spin while they wait halve the speed of all others, and
# make torch ten times slower while another process is busy on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
