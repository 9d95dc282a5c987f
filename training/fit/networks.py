"""Build the network that is trained: a body that embeds a batch, and a head on standardised embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from classifier.ml.encoders import Preprocess, build_head
from training.fit.progress import FitError
from training.fit.recipes import Recipe

LORA_MODULES = ("query", "key", "value", "dense", "q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2")
LORA_LAYER = "lora_"
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each dimension of the training embeddings, (dim,) float32."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, embeddings: Any) -> "Scale":
        """Return the scale of embeddings (n, dim), read in chunks so that they need not fit into memory."""
        rows, dim = embeddings.shape
        total, squares = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64)
        for start in range(0, rows, 65_536):
            chunk = torch.from_numpy(embeddings[start : start + 65_536].astype("float64"))
            total, squares = total + chunk.sum(dim=0), squares + chunk.square().sum(dim=0)
        mean = total / rows
        std = (squares / rows - mean.square()).clamp(min=0).sqrt()
        # MiniLM has a dimension that never changes; dividing by its deviation would overflow half precision.
        return cls(mean.float(), std.clamp(min=max(0.1 * float(std.mean()), 1e-6)).float())


class Network(nn.Module):
    """A body and a head; its state holds only the trainable parameters."""

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, head: nn.Sequential, scale: Scale, dropout: float) -> None:
        super().__init__()
        self.body, self.head, self.dropout = body, head, nn.Dropout(dropout)
        self.register_buffer("mean", scale.mean.clone())
        self.register_buffer("std", scale.std.clone())

    def forward(self, **batch: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        embeddings: Tensor = self.body(**batch).float()
        logits: Tensor = self.head(self.dropout((embeddings - self.mean) / self.std))
        return logits

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the trainable tensors alone: checkpoints stay small, and the rest comes from the backbone."""
        trainable = self._trainable_names()
        state = super().state_dict(*args, **kwargs)
        return {name: value.contiguous() for name, value in state.items() if name in trainable}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load trainable tensors; frozen ones, which `state_dict` leaves out, don't count as missing.

        Raises RuntimeError when `strict` and a trainable tensor is missing or one is unknown.
        """
        result = super().load_state_dict(state_dict, strict=False, assign=assign)
        trainable = self._trainable_names()
        # The Trainer warns about each missing key after it loads a checkpoint.
        result.missing_keys[:] = [name for name in result.missing_keys if name in trainable]
        if strict and (result.missing_keys or result.unexpected_keys):
            raise RuntimeError(f"Missing tensors: {result.missing_keys}; unknown ones: {result.unexpected_keys}")
        return result

    def train(self, mode: bool = True) -> "Network":
        super().train(mode)
        # Batch normalisation keeps its pretrained statistics: small batches of few classes would spoil them.
        for module in self.body.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()
        return self

    def folded_head(self) -> nn.Sequential:
        """Return a copy of the head that reads plain unit embeddings, on the CPU."""
        first = self.head[0]
        hidden = first.out_features if len(self.head) > 1 else 0
        classes = self.head[-1].out_features
        head = build_head(int(first.in_features), int(hidden), int(classes))  # type: ignore[arg-type]
        head.load_state_dict({name: value.cpu() for name, value in self.head.state_dict().items()})
        mean, std = self.mean.cpu(), self.std.cpu()
        with torch.no_grad():
            layer: Any = head[0]
            layer.weight.div_(std)
            layer.bias.sub_(layer.weight @ mean)
        return head.eval().requires_grad_(False)

    def _trainable_names(self) -> set[str]:
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}


class IdentityBody(nn.Module):
    """The body of a head on cached embeddings: it returns them unchanged."""

    def forward(self, embeddings: Tensor) -> Tensor:
        return embeddings


class TextBody(nn.Module):
    """A transformer with mean pooling, as classifier.ml.text_model embeds."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        return normalize((states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1), dim=1)


class ImageBody(nn.Module):
    """A convolutional network over bytes (n, 3, height, width), as classifier.ml.image_model embeds."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        scaled = (pixels.float() - self.mean) / self.std
        return normalize(self.encoder(scaled.contiguous(memory_format=torch.channels_last)).float(), dim=1)


def new_head(dim: int, classes: int, recipe: Recipe) -> nn.Sequential:
    """Return a head with small random weights from the recipe's seed."""
    torch.manual_seed(recipe.seed)
    head = build_head(dim, recipe.hidden, classes, recipe.dropout)
    if not recipe.hidden:
        # Without a hidden layer no symmetry has to be broken: all classes begin alike.
        nn.init.zeros_(head[0].weight)  # type: ignore[arg-type]
        nn.init.zeros_(head[0].bias)  # type: ignore[arg-type]
    return head


def unfreeze_layers(encoder: nn.Module, recipe: Recipe) -> None:
    """Make the layers trainable that the recipe's method trains, and freeze all others.

    Raises FitError when the backbone has no layer that the method could train.
    """
    encoder.requires_grad_(False)
    if recipe.method == "lora":
        _add_lora(encoder, recipe.lora_rank)
    elif recipe.method in ("partial", "full"):
        blocks = _blocks(encoder)
        first = 0 if recipe.method == "full" else max(len(blocks) - recipe.layers, 0)
        for name, parameter in encoder.named_parameters():
            depth = _depth(name, blocks, encoder)
            parameter.requires_grad = depth >= first or recipe.method == "full"
        for module in encoder.modules():
            if isinstance(module, BATCH_NORMS):
                module.requires_grad_(False)


def parameter_groups(network: Network, recipe: Recipe, *, joint: bool) -> list[dict[str, Any]]:
    """Return the optimizer's groups: the head's learning rate, and one for each block of the encoder.

    Weight decay does not apply to biases and to the weights of normalisations.
    """
    encoder = getattr(network.body, "encoder", None)
    blocks = _blocks(encoder) if encoder is not None else []
    by_rate: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith("head."):
            rate = recipe.joint_head_rate if joint else recipe.head_rate
            decay = recipe.weight_decay if joint else recipe.head_decay
        else:
            inner = name.removeprefix("body.encoder.")
            depth = _depth(inner, blocks, encoder)
            rate = recipe.encoder_rate * recipe.layer_decay ** max(len(blocks) - 1 - depth, 0)
            decay = recipe.weight_decay
        if parameter.dim() <= 1:
            decay = 0.0
        by_rate.setdefault((rate, decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in by_rate.items()]


def merged_state(encoder: nn.Module) -> dict[str, Tensor]:
    """Return the encoder's weights under the backbone's own names, on the CPU, low-rank differences added."""
    state = {name: value.detach().cpu() for name, value in encoder.state_dict().items()}
    plain: dict[str, Tensor] = {}
    for name, value in state.items():
        if LORA_LAYER in name:
            continue
        plain[name.replace(".base_layer.", ".")] = value
    for name, module in encoder.named_modules():
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer"):
            plain[f"{name}.weight"] = plain[f"{name}.weight"] + module.get_delta_weight("default").detach().cpu()
    return plain


def copy_matching_rows(
    network: Network, tensors: Mapping[str, Tensor], known: list[str], labels: tuple[str, ...]
) -> list[str]:
    """Copy the rows of an older head (on plain embeddings) for the same labels; return the labels that it lacks.

    A head of another shape gets no rows, and every label is returned.
    """
    own = network.head.state_dict()
    last = f"{len(network.head) - 1}"
    shapes_fit = set(own) == set(tensors) and all(
        own[name].shape[1:] == value.shape[1:] and (name.startswith(f"{last}.") or own[name].shape == value.shape)
        for name, value in tensors.items()
    )
    if not shapes_fit:
        return list(labels)
    state = {name: value.float().clone() for name, value in tensors.items()}
    # The old head reads plain embeddings, this one standardised ones.
    state["0.bias"] = state["0.bias"] + state["0.weight"] @ network.mean.cpu()
    state["0.weight"] = state["0.weight"] * network.std.cpu()
    place = {label: row for row, label in enumerate(known)}
    new_labels = [label for label in labels if label not in place]
    for name in (f"{last}.weight", f"{last}.bias"):
        old, new = state[name], own[name].clone().cpu()
        for row, label in enumerate(labels):
            # A new class begins as likely as the average one.
            new[row] = old[place[label]] if label in place else old.mean(dim=0)
        state[name] = new
    network.head.load_state_dict(state)
    return new_labels


def extended_head(
    head: nn.Sequential,
    learnt: Sequence[str],
    tensors: Mapping[str, Tensor],
    known: Sequence[str],
    labels: Sequence[str],
) -> nn.Sequential:
    """Return a head with a row for each of `labels`: those of `learnt` from `head`, the others from an older head.

    `tensors` are the older head's and `known` the labels of its rows. Both heads read plain embeddings and have no
    hidden layer.
    """
    layer: Any = head[0]
    whole = build_head(int(layer.in_features), 0, len(labels))
    own, theirs = ({label: row for row, label in enumerate(names)} for names in (learnt, known))
    state = {}
    for name, new in (("weight", layer.weight), ("bias", layer.bias)):
        old = tensors[f"0.{name}"].float()
        rows = [new[own[label]] if label in own else old[theirs[label]] for label in labels]
        state[f"0.{name}"] = torch.stack(rows).detach()
    whole.load_state_dict(state)
    return whole.eval().requires_grad_(False)


def _add_lora(encoder: nn.Module, rank: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=list(LORA_MODULES), bias="none")
    try:
        inject_adapter_in_model(config, encoder)
    except ValueError as error:
        raise FitError(f"The recipe's backbone has no layers for low-rank differences: {error}") from error
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad = LORA_LAYER in name


def _blocks(encoder: nn.Module) -> list[str]:
    """Return the names of the encoder's blocks, first to last: the longest sequence of modules with weights."""
    sequences = []
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList | nn.Sequential):
            prefix = f"{name}." if name else ""
            sequences.append([prefix + child for child in _child_names(module)])
    return max(sequences, key=len, default=[])


def _depth(name: str, blocks: list[str], encoder: nn.Module | None) -> int:
    """Return the number of the block that a parameter lies in: -1 before the first, len(blocks) after the last."""
    for depth, block in enumerate(blocks):
        if name.startswith(f"{block}."):
            return depth
    order = _child_names(encoder) if encoder is not None else []
    parent = blocks[0].split(".")[0] if blocks else ""
    top = name.split(".")[0]
    if top in order and parent in order and order.index(top) > order.index(parent):
        return len(blocks)
    return -1


def _child_names(encoder: nn.Module) -> list[str]:
    return [name for name, _module in encoder.named_children()]
