"""A model that adapters have changed: another vocabulary, replicated layers, new biases, a head of its own."""

import copy
import re
from dataclasses import dataclass

import torch
from transformers.pytorch_utils import Conv1D

from .checkpoint import Checkpoint
from .errors import Known


@dataclass(frozen=True)
class Changes:
    """What Rust has found adapters to change about a model, apart from values.

    `layers` gives for each layer the one of the base whose weights it has; `biases` names modules, without the base
    model's prefix, that get a bias; `untied` says that the head is no longer the embedding.
    """

    vocab_size: int | None = None
    layers: list[int] | None = None
    biases: tuple[str, ...] = ()
    untied: bool = False

    def of(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with the configuration of the changed model."""
        changed = copy.copy(checkpoint)
        changed.config = copy.deepcopy(checkpoint.config)
        changed.stored_config = checkpoint.config
        if self.vocab_size is not None:
            changed.config.vocab_size = self.vocab_size
        # A head of its own is another parameter of the model.
        if self.untied:
            changed.config.tie_word_embeddings = False
        return changed


@dataclass(frozen=True)
class Part:
    """A parameter of a changed model: its first name, the stored tensor that fills it, whether it is a `Conv1D`'s."""

    name: str
    tensor: str | None
    transpose: bool


def empty_model(checkpoint: Checkpoint, changes: Changes) -> tuple[torch.nn.Module, dict[str, Part]]:
    """The changed model without memory, and the part behind each name of a parameter.

    Names of one part are to be one parameter. `checkpoint` is what `Changes.of` has made; its configuration gets the
    number of layers.
    """
    plain = copy.copy(checkpoint)
    plain.config = checkpoint.stored_config
    tensors = checkpoint.resolve(plain.empty_model().named_parameters(remove_duplicate=False), tied=True)
    module = checkpoint.empty_model()
    if changes.layers is not None:
        _replicate(module, changes.layers)
        checkpoint.config.num_hidden_layers = len(changes.layers)
    new = _add_biases(module, changes.biases)
    transposed = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, Conv1D)}
    parts, first = {}, {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        tensor = None if name in new else tensors[_base_name(name, changes.layers)]
        # Tied parameters are one object and one part; so are the weights of replicated layers, which are not.
        shared = id(parameter) if changes.layers is None else name
        first.setdefault(shared, Part(name, tensor, name in transposed))
        parts[name] = first[shared]
    return module, parts


def _replicate(module: torch.nn.Module, layers: list[int]) -> None:
    """Replicates layers as peft does."""
    from peft.tuners.tuners_utils import replicate_layers

    kinds = set(getattr(module.config, "layer_types", None) or getattr(module.config, "attention_layers", None) or [])
    if len(kinds) > 1:
        raise Known(
            "bad_adapter",
            f"`layer_replication` on a model whose layers are of {len(kinds)} kinds ({', '.join(sorted(kinds))})",
            "peft gives the copies the kinds of the base's first layers, so that no result is the one trained",
        )
    try:
        replicate_layers(module, [[layer, layer + 1] for layer in layers])
    except ValueError as error:
        raise Known("bad_adapter", f"peft cannot replicate layers of {type(module).__name__}: {error}") from None


def _add_biases(module: torch.nn.Module, modules: tuple[str, ...]) -> set[str]:
    """Gives linear layers a bias; returns the new parameters' names."""
    added = set()
    prefix = f"{module.base_model_prefix}."
    for name, part in module.named_modules():
        if name in modules or name.removeprefix(prefix) in modules:
            part.bias = torch.nn.Parameter(torch.empty(part.out_features, device="meta"), requires_grad=False)
            added.add(f"{name}.bias")
    return added


def _base_name(name: str, layers: list[int] | None) -> str:
    """The name of a parameter in the base whose layers have been replicated."""
    if layers is None:
        return name
    return re.sub(r"\.(layers|layer|h)\.(\d+)\.", lambda found: f".{found[1]}.{layers[int(found[2])]}.", name, count=1)
