"""Write the artifact of a fit: config.json and model.safetensors, with compressed differences from the backbone."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from classifier.ml import artifact
from classifier.ml.encoders import DELTA, ENCODER, HEAD, LORA_A, LORA_B, SCALE
from classifier.ml.ngrams import LogitPool
from classifier.ml.text_model import LengthScales
from training.fit.recipes import ImageRecipe, Recipe, TextRecipe
from training.fit.stages import replace_bytes, write_json

# Singular values below this share of the largest are rounding errors of a sum of low-rank differences.
MIN_SINGULAR_VALUE = 1e-4
# A difference of which low-rank factors miss more than this share is stored whole.
MAX_MISSED = 1e-3
# A model that continues another one adds its difference to the other's: how many times the recipe's rank is allowed.
MAX_CONTINUED_MODELS = 3


def encoder_tensors(pretrained: Mapping[str, Tensor], tuned: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Return the tensors that turn the backbone into the tuned encoder; see classifier.ml.encoders."""
    tensors: dict[str, Tensor] = {}
    for name, before in pretrained.items():
        after = tuned[name]
        if not before.is_floating_point() or torch.equal(before, after):
            continue
        delta = after.float() - before.float()
        low_rank = None
        if recipe.method == "lora" and delta.dim() == 2:
            low_rank = _low_rank_factors(delta, MAX_CONTINUED_MODELS * recipe.lora_rank)
        if low_rank:
            tensors[LORA_B + name], tensors[LORA_A + name] = low_rank
        elif recipe.storage == "delta" and delta.dim() > 1:
            scale = delta.flatten(1).abs().amax(dim=1).clamp(min=1e-12) / 127
            steps = (delta / scale.view(-1, *[1] * (delta.dim() - 1))).round()
            tensors[DELTA + name], tensors[SCALE + name] = steps.to(torch.int8), scale
        else:
            tensors[ENCODER + name] = after.half()
    return {name: value.contiguous() for name, value in tensors.items()}


def write_artifact(
    folder: Path,
    *,
    recipe: Recipe,
    labels: tuple[str, ...],
    head: nn.Sequential,
    encoder: Mapping[str, Tensor],
    lexical: Mapping[str, Tensor],
) -> None:
    """Write the artifact with a temperature of one and, with a lexical part, a pool of equal weights."""
    folder.mkdir(parents=True, exist_ok=True)
    first: Any = head[0]
    config: dict[str, Any] = {
        "format": artifact.FORMAT,
        "modality": recipe.modality,
        "backbone": recipe.backbone,
        "labels": list(labels),
        "temperature": 1.0,
        "dim": first.in_features,
        "hidden": recipe.hidden,
        "recipe": recipe.to_json(),
    }
    if isinstance(recipe, TextRecipe):
        config["max_tokens"] = recipe.max_tokens
    if isinstance(recipe, ImageRecipe):
        config["view"] = recipe.view
    state = {HEAD + name: value.half().contiguous() for name, value in head.state_dict().items()}
    tensors = {**state, **encoder, **lexical}
    replace_bytes(folder / artifact.WEIGHTS, save(tensors))
    write_json(folder / artifact.CONFIG, config | _pool_config(LogitPool(0.5, 0.5) if lexical else None))


def store_calibration(
    folder: Path, *, temperature: float, pool: LogitPool | None, length_scales: LengthScales | None
) -> None:
    """Store the fitted temperature, pool and length scales in the artifact's config."""
    config = artifact.read_config(folder) | {"temperature": temperature} | _pool_config(pool)
    if length_scales is not None:
        config["length_scales"] = asdict(length_scales)
    write_json(folder / artifact.CONFIG, config)


def _pool_config(pool: LogitPool | None) -> dict[str, Any]:
    if pool is None:
        return {}
    return {"pool": {"lexical": pool.lexical, "encoder": pool.encoder, "bias": list(pool.bias)}}


def _low_rank_factors(delta: Tensor, max_rank: int) -> tuple[Tensor, Tensor] | None:
    """Return B (out, rank) and A (rank, in) in half precision, or None when `max_rank` is too low."""
    torch.manual_seed(0)  # svd_lowrank projects at random: the same fit must give the same artifact
    left, values, right = torch.svd_lowrank(delta, q=min(max_rank, *delta.shape), niter=2)
    rank = int((values > MIN_SINGULAR_VALUE * values[0]).sum())
    missed = (left[:, :rank] * values[:rank]) @ right[:, :rank].T - delta
    if 2 * rank * sum(delta.shape) >= delta.numel() or missed.norm() > MAX_MISSED * delta.norm():
        return None
    root = values[:rank].sqrt()
    return (left[:, :rank] * root).half().contiguous(), (right[:, :rank] * root).T.half().contiguous()
