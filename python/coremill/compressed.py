"""coremltools' own compression, as the reference for the native one, and what it reads from compressed packages."""

import hashlib
import inspect

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
from coremltools.converters.mil.frontend.milproto.load import load
from safetensors.numpy import save_file

from .errors import Known


def quantize_reference(fields: dict) -> dict:
    """Compresses the single-function package `package` into `out` with coremltools.

    `scheme` is {"kind": "palettize" | "linear", ...}: the other entries go to coremltools' OpPalettizerConfig
    (mode, nbits, granularity, group_size) or OpLinearQuantizerConfig (mode, dtype, granularity, block_size).
    """
    apply, config = compressor(fields["scheme"])
    apply(ct.models.MLModel(fields["package"], skip_model_load=True), config).save(fields["out"])
    return {"out": fields["out"]}


def compressor(scheme: dict):
    """coremltools' pass for a scheme as `quantize_reference` has it, and the configuration that goes with it."""
    scheme = dict(scheme)
    kind = scheme.pop("kind", None)
    kinds = {
        "palettize": (cto.OpPalettizerConfig, cto.palettize_weights),
        "linear": (cto.OpLinearQuantizerConfig, cto.linear_quantize_weights),
    }
    if kind not in kinds:
        raise Known("bad_request", f"scheme kind is {kind!r}", f"it can be {', '.join(kinds)}")
    make, apply = kinds[kind]
    try:
        return apply, cto.OptimizationConfig(global_config=make(**scheme))
    except (TypeError, ValueError) as error:
        raise Known("bad_request", f"coremltools refuses the scheme {scheme}: {error}") from None


def dequantize(fields: dict) -> dict:
    """Reads a package with coremltools and writes its compressed constants, dequantised, to `out`.

    The tensors are called FUNCTION/NAME. The response lists for each function every constant as coremltools read it:
    its type, shape, and the SHA-256 of its values, sub-byte types one value a byte.
    """
    dense, constants = {}, {}
    for name, function in program(fields["package"]).functions.items():
        constants[name] = {}
        for op in function.operations:
            if op.op_type == "const" and isinstance(op.outputs[0].val, (np.ndarray, np.generic)):
                constants[name][op.outputs[0].name] = _described(np.asarray(op.outputs[0].val))
            elif op.op_type.startswith("constexpr_"):
                values = dequantized(op)
                for output, value in zip(op.outputs, values if isinstance(values, tuple) else (values,)):
                    dense[f"{name}/{output.name}"] = np.ascontiguousarray(value)
    save_file(dense, fields["out"])
    return {"compressed": sorted(dense), "constants": constants}


def dequantized(op):
    """What a `constexpr` operation makes: an array, or a pair of a mask and the values where it is set.

    The arithmetic is coremltools' own; its `materialized_val_inference` alone does not follow a table that another
    `constexpr` makes.
    """
    if not hasattr(op, "decompress"):
        return op.materialized_val_inference()
    names = inspect.signature(op.decompress).parameters
    return op.decompress(**{name: _value(op.inputs.get(name)) for name in names})


def _value(var):
    if var is None or var.val is not None:
        return None if var is None else var.val
    values = dequantized(var.op)
    return values[var.op.outputs.index(var)] if isinstance(values, tuple) else values


def program(package: str):
    """A package's program as coremltools' frontend reads it."""
    model = ct.models.MLModel(package, skip_model_load=True)
    spec = model.get_spec()
    return load(spec, specification_version=spec.specificationVersion, file_weights_dir=model.weights_dir)


def _described(value: np.ndarray) -> dict:
    digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    return {"dtype": str(value.dtype), "shape": list(value.shape), "sha256": digest}
