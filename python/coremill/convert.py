"""From a module to an .mlpackage: trace, convert, give the head's input its name."""

import os
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass

import coremltools as ct
import numpy as np
import torch
from coremltools.converters.mil import Builder as mb

from . import hooks
from .errors import Known
from .placeholders import blank, is_spread

# The value that enters the head in `init`; evaluation taps it.
HIDDEN = "hidden_states"


@dataclass(frozen=True)
class Port:
    """An input, output or state: its name, shape and type (`int32`, `fp16` or `fp32`)."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def as_dict(self) -> dict:
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}


@dataclass(frozen=True)
class Function:
    """A function to convert: a module to trace and its ports, in the order of the module's arguments."""

    name: str
    module: torch.nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[Port, ...] = ()
    # Whether the head reads one row of the hidden states, which then get the name `hidden_states`.
    taps_hidden: bool = False

    def as_dict(self) -> dict:
        ports = {"inputs": self.inputs, "outputs": self.outputs, "states": self.states}
        return {"name": self.name, **{kind: [port.as_dict() for port in value] for kind, value in ports.items()}}


# Token ids and positions are never negative, so the operations that would mend negative ones are left out.
_LEFT_OUT = {"common::guard_negative_gather_indices"}

_NUMPY = {"int32": np.int32, "fp16": np.float16, "fp32": np.float32}


def convert(function: Function, path: str, target: str, precision: str) -> None:
    """Writes `function` as a package with the one function `main` at `path`.

    Weights that are placeholders stay placeholders; real ones are written.
    """
    # Names of unnamed operations count upwards for as long as the process lives; begin anew, so they are the same.
    mb.name_count.clear()
    function.module.eval()
    small = any(is_spread(parameter) for parameter in function.module.parameters())
    example = tuple(_example(port) for port in function.inputs)
    pipeline = ct.PassPipeline()
    pipeline.remove_passes(_LEFT_OUT)
    with torch.no_grad(), hooks.placeholders_stay_small() if small else nullcontext():
        traced = torch.jit.trace(function.module, example, check_trace=False)
        model = ct.convert(
            traced,
            inputs=[_tensor(port) for port in function.inputs],
            outputs=[ct.TensorType(name=port.name, dtype=_NUMPY[port.dtype]) for port in function.outputs],
            states=[ct.StateType(_tensor(port, named=False), name=port.name) for port in function.states],
            minimum_deployment_target=getattr(ct.target, target),
            compute_precision={"fp16": ct.precision.FLOAT16, "fp32": ct.precision.FLOAT32}[precision],
            pass_pipeline=pipeline,
            skip_model_load=True,
        )
    spec = model.get_spec()
    if function.taps_hidden:
        _name_hidden(spec, function.inputs[0].shape[1])
    # The date of a conversion would make the same request give other bytes.
    spec.description.metadata.userDefined.pop("com.github.apple.coremltools.conversion_date", None)
    _save(spec, model.weights_dir, path)


def _example(port: Port) -> torch.Tensor:
    """Something to trace with. Counts of tokens must not be zero, for the trace looks up the last token."""
    if port.dtype != "int32":
        return blank(port.shape)
    counts = ("length", "attention_mask", "pool_mask")
    return torch.full(port.shape, int(port.name in counts), dtype=torch.int32)


def _tensor(port: Port, named: bool = True) -> ct.TensorType:
    return ct.TensorType(name=port.name if named else None, shape=port.shape, dtype=_NUMPY[port.dtype])


def _save(spec, weights_dir: str, path: str) -> None:
    """Writes the package whole, then moves it to its place."""
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".convert-") as staging:
        staged = os.path.join(staging, os.path.basename(path))
        ct.models.utils.save_spec(spec, staged, weights_dir=weights_dir)
        os.rename(staged, path)


def _name_hidden(spec, length: int) -> None:
    """Renames the value of which the head reads one row to `hidden_states`.

    It is found from the end, logits back to the gather of the last position, so no pass that renames or removes
    operations can hide it.
    """
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    made_by = {output.name: op for op in block.operations for output in op.outputs}
    name = block.outputs[0]
    for _ in range(8):
        op = made_by[name]
        name = op.inputs["x"].arguments[0].name
        if op.type == "gather":
            break
    else:
        raise Known("conversion_failed", "no gather of the last position between the hidden states and the logits")
    (value,) = (output for output in made_by[name].outputs if output.name == name)
    shape = [dimension.constant.size for dimension in value.type.tensorType.dimensions]
    if len(shape) != 3 or shape[1] != length:
        raise Known("conversion_failed", f"value `{name}` of shape {shape} is not the hidden states of {length} tokens")
    if name != HIDDEN:
        # transformers uses the name for inner values too; one of them may have got it.
        _rename(block, {name: HIDDEN, HIDDEN: f"{HIDDEN}_inner"})


def _rename(block, names: dict[str, str]) -> None:
    """Renames values of a block, where they are made and where they are used."""
    for op in block.operations:
        for argument in op.inputs.values():
            for binding in argument.arguments:
                if binding.name in names:
                    binding.name = names[binding.name]
        for output in op.outputs:
            output.name = names.get(output.name, output.name)
