"""Turns a transformers model into one that traces well: our layers in place of theirs, weights or placeholders."""

import math
from dataclasses import dataclass

import torch
from transformers.pytorch_utils import Conv1D

from . import placeholders
from .adapters import Adapter, branch_placeholders, branch_weights
from .adapters import merge as merge_adapters
from .architectures import attention_sites
from .attention import Step
from .changes import Changes, empty_model
from .checkpoint import Checkpoint, check_rotary_length
from .errors import Known
from .layers import Linear, RmsNorm, Rotary

# Buffers of transformers that our attention replaces.
_REPLACED_BUFFERS = {"bias", "masked_bias"}


class Table:
    """The placeholders of one request, in the order of their ids; asked twice for the same, it gives the same."""

    def __init__(self):
        self.entries: list[dict] = []
        self._made: dict[tuple, torch.nn.Parameter] = {}

    def add(
        self, tensor: str | None, shape, *, parameter="", transpose=False, adapter=None, merged_adapters=None, folder=""
    ) -> torch.nn.Parameter:
        """The placeholder for a `tensor` of the checkpoint, or of the adapter that `adapter` names.

        `parameter` is its name in the model, `tensor` is `None` for one that only adapters have; `shape` is the one in
        the program; `transpose` says that the stored one is the reverse; `merged_adapters` lists the encode adapters
        that are to be merged into the tensor; `folder` is where in the checkpoint it lies.
        """
        if math.prod(shape) < 2:
            raise Known(
                "unsupported_architecture",
                f"tensor `{tensor or parameter}` {list(shape)} has one element, which no placeholder can stand for",
            )
        key = (folder, parameter or tensor, adapter and adapter["index"], tuple(merged_adapters or ()))
        if key not in self._made:
            identity = len(self.entries)
            self.entries.append(
                {
                    "id": identity,
                    "folder": folder,
                    "parameter": parameter,
                    "tensor": tensor or "",
                    "shape": list(shape),
                    "transpose": transpose,
                    "adapter": adapter,
                    "merged_adapters": merged_adapters,
                }
            )
            self._made[key] = _parameter(placeholders.tensor(identity, shape))
        return self._made[key]


@dataclass
class Model:
    """A model ready for the wrappers: the surgery done, every attention layer tied to `step`."""

    module: torch.nn.Module
    step: Step
    windows: set[int | None]
    checkpoint: Checkpoint


def skeleton(
    checkpoint: Checkpoint, length: int, table: Table, adapters=(), merge=False, changes: Changes = Changes()
) -> Model:
    """The model with a placeholder for every parameter, for functions of `length` positions.

    `adapters` are paths of encode adapters: they become branches, or with `merge` marks at the tensors. `changes` is
    what merged adapters make of the model.
    """
    module, parts = empty_model(checkpoint, changes)
    placed = [] if merge else [Adapter(path, module) for path in adapters]
    merged = list(range(len(adapters))) if merge else None
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters(remove_duplicate=False)}
    for name, part in parts.items():
        shape = shapes[name][::-1] if part.transpose else shapes[name]
        made = table.add(
            part.tensor,
            shape,
            parameter=part.name,
            transpose=part.transpose,
            merged_adapters=merged,
            folder=checkpoint.folder,
        )
        _assign(module, name, made)
    model = _operate(module, checkpoint, length, blank=True)
    branch_placeholders(placed, module, table)
    return model


def real(checkpoint: Checkpoint, length: int, merged=(), branches=(), unmerged=()) -> Model:
    """The model with its weights in f32: the adapters of `merged` merged by peft, those of `branches` beside it.

    Adapters of `unmerged` are added with negative sign, which subtracts them from weights that have them merged.
    """
    module = merge_adapters(checkpoint.real_model(), merged)
    placed = [Adapter(path, module) for path in branches]
    subtracted = [Adapter(path, module) for path in unmerged]
    for part in module.modules():
        if isinstance(part, Conv1D):
            part.weight = _parameter(part.weight.detach().t().contiguous())
    model = _operate(module, checkpoint, length, blank=False)
    branch_weights(placed, module, 1.0)
    branch_weights(subtracted, module, -1.0)
    return model


def _operate(module, checkpoint: Checkpoint, length: int, blank: bool) -> Model:
    """Replaces linears, norms and rotary tables, and ties the attention layers to one step."""
    row = checkpoint.row
    for name, part in list(module.named_modules()):
        if isinstance(part, (torch.nn.Linear, Conv1D)):
            _assign(module, name, Linear(part.weight, part.bias))
        elif isinstance(part, row.norms):
            _assign(module, name, RmsNorm(part.weight, part.variance_epsilon))
        elif name.rpartition(".")[2] == "rotary_emb":
            check_rotary_length(checkpoint.config, length)
            _assign(module, name, Rotary(type(part)(checkpoint.config), length))
    _settle_buffers(module)
    step = Step(blank)
    windows = attention_sites(module, row, step)
    if not windows:
        model_type = checkpoint.config.model_type
        raise Known("unsupported_architecture", f"no attention layer of `{model_type}` was recognised")
    return Model(module.eval(), step, windows, checkpoint)


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
