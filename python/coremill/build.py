"""Turns a transformers model into one that traces well: our layers in place of theirs, weights or placeholders."""

from dataclasses import dataclass, field

import torch
from transformers.pytorch_utils import Conv1D

from . import placeholders
from .architectures import attention_sites
from .attention import Step
from .checkpoint import Checkpoint
from .errors import Known
from .layers import Linear, RmsNorm, Rotary

# Buffers of transformers that our attention replaces.
_REPLACED_BUFFERS = {"bias", "masked_bias"}


@dataclass
class Table:
    """The placeholders of one request, in the order of their ids."""

    entries: list[dict] = field(default_factory=list)

    def add(self, tensor: str, shape, transpose: bool = False, **more) -> torch.nn.Parameter:
        """A new placeholder for a checkpoint's `tensor`; `shape` is the one in the program."""
        identity = len(self.entries)
        entry = {"id": identity, "tensor": tensor, "shape": list(shape), "transpose": transpose}
        self.entries.append({**entry, "adapter": None, "merged_adapters": None, **more})
        return _parameter(placeholders.tensor(identity, shape))


@dataclass
class Model:
    """A model ready for the wrappers: the surgery done, every attention layer tied to `step`."""

    module: torch.nn.Module
    step: Step
    windows: set[int | None]
    table: Table | None
    checkpoint: Checkpoint


def skeleton(checkpoint: Checkpoint, length: int) -> Model:
    """The model with a placeholder for every parameter."""
    module = checkpoint.empty_model()
    tensors = checkpoint.resolve(module.named_parameters())
    table = Table()
    transposed = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, Conv1D)}
    made = {}
    for name, parameter in module.named_parameters():
        shape = tuple(parameter.shape)
        if name in transposed:
            shape = shape[::-1]
        made[name] = table.add(tensors[name], shape, transpose=name in transposed)
    # Tied parameters are one object under several names: each keeps the placeholder of the first.
    first = {id(parameter): name for name, parameter in reversed(list(module.named_parameters()))}
    for name, parameter in list(module.named_parameters(remove_duplicate=False)):
        _assign(module, name, made[first[id(parameter)]])
    return _operate(module, checkpoint, length, table)


def real(checkpoint: Checkpoint, length: int, module: torch.nn.Module | None = None) -> Model:
    """The model with its weights in f32; `module` gives one that is loaded already."""
    module = module or checkpoint.real_model()
    for part in module.modules():
        if isinstance(part, Conv1D):
            part.weight = _parameter(part.weight.detach().t().contiguous())
    return _operate(module, checkpoint, length, None)


def _operate(module, checkpoint: Checkpoint, length: int, table: Table | None) -> Model:
    """Replaces linears, norms and rotary tables, and ties the attention layers to one step."""
    row = checkpoint.row
    for name, part in list(module.named_modules()):
        if isinstance(part, (torch.nn.Linear, Conv1D)):
            _assign(module, name, Linear(part.weight, part.bias))
        elif isinstance(part, row.norms):
            _assign(module, name, RmsNorm(part.weight, part.variance_epsilon))
        elif name.rpartition(".")[2] == "rotary_emb":
            _assign(module, name, Rotary(type(part)(checkpoint.config, device="cpu"), length))
    _settle_buffers(module)
    step = Step(blank=table is not None)
    windows = attention_sites(module, row, step)
    if not windows:
        raise Known("unsupported_architecture", f"no attention layer of `{checkpoint.config.model_type}` was recognised")
    return Model(module.eval(), step, windows, table, checkpoint)


def _settle_buffers(module) -> None:
    """Drops the buffers that our attention replaces and gives the others their values."""
    for name, buffer in list(module.named_buffers()):
        leaf = name.rpartition(".")[2]
        if leaf in _REPLACED_BUFFERS:
            _assign(module, name, None)
        elif leaf == "position_ids":
            _assign(module, name, torch.arange(buffer.shape[-1])[None])
        elif leaf == "token_type_ids":
            _assign(module, name, torch.zeros(tuple(buffer.shape), dtype=torch.int64))
        elif buffer.is_meta:
            raise Known("unsupported_architecture", f"buffer `{name}` has no known value")


def _assign(module, name: str, value) -> None:
    """Sets the attribute at a dotted path."""
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, value)


def _parameter(value: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(value, requires_grad=False)
