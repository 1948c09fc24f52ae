"""The module list of a sentence-transformers checkpoint, read without that package: Pooling, Dense, Normalize."""

import os
from dataclasses import dataclass

import torch
from safetensors.torch import load_file

from .checkpoint import read_json, tensor_shapes
from .errors import Known

# Pooling modes by the setting that turns each on, in the order in which their results are joined.
POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_lasttoken": "lasttoken",
}
_REFUSED = ("pooling_mode_weightedmean_tokens",)

ACTIVATIONS = {
    "Identity": torch.nn.Identity,
    "Tanh": torch.nn.Tanh,
    "GELU": torch.nn.GELU,
    "ReLU": torch.nn.ReLU,
    "Sigmoid": torch.nn.Sigmoid,
    "SiLU": torch.nn.SiLU,
}


@dataclass(frozen=True)
class Pooling:
    """Token vectors to one vector: the results of all `modes` side by side."""

    modes: tuple[str, ...]


@dataclass(frozen=True)
class Dense:
    """A linear layer [out, in] and an activation; its tensors lie in `folder` of the checkpoint."""

    folder: str
    shapes: dict[str, list[int]]
    activation: str

    def weights(self, checkpoint: str) -> dict[str, torch.Tensor]:
        """`linear.weight` and perhaps `linear.bias`, in f32."""
        tensors = load_file(os.path.join(checkpoint, self.folder, "model.safetensors"))
        return {name: tensor.float() for name, tensor in tensors.items()}


@dataclass(frozen=True)
class Normalize:
    """A vector divided by its length."""


def chain(checkpoint) -> list:
    """The modules after the Transformer. A checkpoint without a list gets the mean, as sentence-transformers does."""
    if checkpoint.modules is None:
        return [Pooling(("mean",))]
    readers = {"Pooling": _pooling, "Dense": _dense, "Normalize": lambda *_: Normalize()}
    found = []
    for module in checkpoint.modules[1:]:
        kind = module["type"].rpartition(".")[2]
        if kind not in readers:
            raise Known(
                "unsupported_architecture",
                f"sentence-transformers module `{module['type']}` is not supported",
                f"supported are Transformer, {', '.join(readers)}",
            )
        found.append(readers[kind](checkpoint.path, module["path"]))
    if not found or not isinstance(found[0], Pooling):
        raise Known("unsupported_architecture", "the sentence-transformers modules do not pool right after the model")
    return found


def _pooling(checkpoint: str, folder: str) -> Pooling:
    config = read_json(os.path.join(checkpoint, folder, "config.json"), "bad_checkpoint")
    refused = [name for name in _REFUSED if config.get(name)]
    modes = tuple(mode for setting, mode in POOLING.items() if config.get(setting))
    if config.get("pooling_mode"):
        modes = (config["pooling_mode"],)
    if refused or not modes or not set(modes) <= set(POOLING.values()):
        shown = ", ".join([*refused, *modes]) or "none"
        raise Known(
            "unsupported_architecture",
            f"pooling {shown} is not supported",
            f"supported are {', '.join(POOLING.values())}",
        )
    return Pooling(modes)


def _dense(checkpoint: str, folder: str) -> Dense:
    config = read_json(os.path.join(checkpoint, folder, "config.json"), "bad_checkpoint")
    activation = config.get("activation_function", "Identity").rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise Known(
            "unsupported_architecture",
            f"activation `{config['activation_function']}` of {folder} is not supported",
            f"supported are {', '.join(ACTIVATIONS)}",
        )
    return Dense(folder, tensor_shapes(os.path.join(checkpoint, folder)), activation)
