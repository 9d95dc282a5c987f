"""Keep converted networks on disk, by a fingerprint of their source; convert again what is missing or damaged.

Versions with the same encoder, such as heads on one backbone, share one.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import nn

from classifier.ml.engines import openvino_cpu
from classifier.ml.engines.base import Batch, Encoder
from classifier.ml.engines.reference import TorchEngine

if TYPE_CHECKING:
    import openvino

log = logging.getLogger(__name__)

FORMAT = 1
NETWORK, REFERENCE, SEAL = "network.xml", "reference.npy", "seal.json"


@dataclass(frozen=True)
class Converted:
    """A converted network, and the reference's embeddings (rows, dim) of the encoder's samples."""

    model: "openvino.Model"
    reference: npt.NDArray[np.float32]


def load_or_convert(encoder: Encoder, cache: Path) -> Converted:
    """Return the encoder's network converted, from the folder `cache` if it is there.

    Raises the errors of the conversion. A folder that can't be written is ignored.
    """
    samples = encoder.samples()
    fingerprint = _fingerprint(encoder.network, samples)
    folder = cache / f"{fingerprint}-openvino-{openvino_cpu.openvino_version()}-{FORMAT}"
    # The library's version is part of the name: another version may read or optimise a network differently.
    known = _read(folder)
    if known:
        return known
    reference = TorchEngine(encoder.network, next(encoder.network.parameters()).device, rows=0).run(samples)
    made = Converted(
        openvino_cpu.convert_network(encoder.network, encoder.inputs, samples[0]),
        np.concatenate([embeddings.numpy() for embeddings in reference]),
    )
    try:
        _write(made, folder)
    except OSError as error:
        log.warning("The converted network could not be kept (%s); the next process converts it again.", error)
    return made


def _read(folder: Path) -> Converted | None:
    """Return the folder's content, or None when it is missing or damaged."""
    try:
        digests: dict[str, str] = json.loads((folder / SEAL).read_bytes())
        if {path.name for path in folder.iterdir()} != {*digests, SEAL}:
            raise ValueError("a file is missing or added")
        if any(_digest(folder / name) != digest for name, digest in digests.items()):
            raise ValueError("a file has changed")
        return Converted(openvino_cpu.openvino_core().read_model(folder / NETWORK), np.load(folder / REFERENCE))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, RuntimeError) as error:
        log.warning("A converted network is damaged (%s) and is converted again: %s", error, folder.name)
        return None


def _write(made: Converted, folder: Path) -> None:
    """Write the files by one rename, replacing damaged ones and those of another version of the library."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as temporary:
        fresh = Path(temporary) / "network"
        fresh.mkdir()
        openvino_cpu.import_openvino().save_model(made.model, fresh / NETWORK, compress_to_fp16=False)
        np.save(fresh / REFERENCE, made.reference)
        digests = {path.name: _digest(path) for path in fresh.iterdir()}
        # The seal comes last and holds the digests: a half-written folder is never taken for a network.
        (fresh / SEAL).write_text(json.dumps(digests, indent=1))
        for old in folder.parent.glob(f"{folder.name.partition('-')[0]}-*"):
            if old != folder or _read(folder) is None:
                shutil.rmtree(old, ignore_errors=True)
        with suppress(OSError):  # another process has written it
            fresh.rename(folder)


def _fingerprint(network: nn.Module, samples: Sequence[Batch]) -> str:
    """Return a hash of the network's structure and weights and of the shapes of its inputs."""
    digest = hashlib.blake2b(digest_size=16)
    configs = [str(module.config) for module in network.modules() if hasattr(module, "config")]
    digest.update(repr((network, configs[:1], [tensor.shape for batch in samples for tensor in batch])).encode())
    for name, value in network.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
