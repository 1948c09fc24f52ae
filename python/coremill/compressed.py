"""coremltools' own compression, as the reference for the native one, and what it reads from compressed packages."""

import hashlib
import inspect
import logging
import re
import time

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
from coremltools.converters.mil.frontend.milproto.load import load
from coremltools.proto import MIL_pb2
from safetensors.numpy import save_file

from .errors import Known

# What coremltools puts behind a weight's name for the last operation that makes it.
_ENDS = ("_sparsified", "_palettized", "_palettized_pcs", "_quantized")
# Operations that show that a step was taken.
_MADE = {
    "prune": {"constexpr_sparse_to_dense"},
    "palettize": {"constexpr_lut_to_dense", "constexpr_lut_to_sparse"},
    "linear": {
        "constexpr_affine_dequantize",
        "constexpr_blockwise_shift_scale",
        "constexpr_sparse_blockwise_shift_scale",
    },
}
# Where the elements stand; a scale for fp16 elements quantizes nothing.
_ELEMENTS = ("quantized_data", "data", "nonzero_data")
_INTEGERS = {MIL_pb2.INT4, MIL_pb2.UINT4, MIL_pb2.INT8, MIL_pb2.UINT8}


def quantize_reference(fields: dict) -> dict:
    """Compresses the single-function package `package` into `out` with coremltools.

    `rules` is a list of {"scheme": [STEP, ...], "weights": [NAME, ...]}, the names those of constants; one rule without
    `weights` is for all of them. A step is {"kind": "palettize" | "linear" | "prune", ...}: the other entries go to
    OpPalettizerConfig, OpLinearQuantizerConfig, or to OpThresholdPrunerConfig if `threshold` is among them and
    OpMagnitudePrunerConfig if not. A second step compresses what the first one made (`joint_compression`).

    The response lists the named weights in `compressed`, those that were pruned with their share of `zeros`, and in
    `skipped`, which says why: coremltools logs a skip at best. `small` are those below its `weight_threshold`. `seconds` is the time of the passes alone.
    """
    model = ct.models.MLModel(fields["package"], skip_model_load=True)
    functions = sorted(model.get_spec().mlProgram.functions)
    if len(functions) != 1:
        raise Known(
            "bad_request",
            f"coremltools compresses packages with one function, and this one has {len(functions)}: {', '.join(functions)}",
            "take a package with one function, or the native engine",
        )
    sizes = {name: _elements(op) for name, op in _operations(model).items() if op.type == "const"}
    asked = [(name, rule["scheme"]) for rule in fields["rules"] for name in rule.get("weights", ())]
    if missing := [name for name, _ in asked if name not in sizes]:
        raise Known("bad_request", f"package has no constant {missing[0]!r}")
    heard = _Heard()
    logging.getLogger("coremltools").addHandler(heard)
    start = time.perf_counter()
    try:
        for apply in passes(fields["rules"]):
            model = apply(model)
    except (IndexError, NotImplementedError, ValueError) as error:
        raise Known("conversion_failed", f"coremltools refuses: {str(error).rstrip('.')}") from None
    finally:
        logging.getLogger("coremltools").removeHandler(heard)
    seconds = time.perf_counter() - start
    model.save(fields["out"])
    operations = _operations(model)
    compressed, skipped = [], []
    for name, steps in asked:
        chain = _chain(operations, name)
        left = [step for step in steps if not any(_shows(op, operations, step) for op in chain)]
        if not left:
            compressed.append({"weight": name, **_zeros(chain, operations, sizes[name])})
            continue
        small = sizes[name] <= left[0].get("weight_threshold", 2048)
        reason = f"{sizes[name]} elements are below coremltools' threshold" if small else heard.of(name, sizes)
        skipped.append({"weight": name, "step": left[0]["kind"], "reason": reason, "small": small})
    return {"out": fields["out"], "compressed": compressed, "skipped": skipped, "seconds": seconds}


def passes(rules: list) -> list:
    """coremltools' passes in the order to be applied, each from a model to a model, for rules as `quantize_reference`
    has them."""
    found = []
    for depth in range(max((len(rule["scheme"]) for rule in rules), default=0)):
        configs = {}
        for rule in rules:
            if depth < len(rule["scheme"]):
                apply, config = _configured(rule["scheme"][depth])
                # A later pass finds a weight by the operation that the earlier ones left in its place.
                ends = _ENDS if depth else ("",)
                names = [name + end for name in rule["weights"] for end in ends] if "weights" in rule else [None]
                configs.setdefault(apply, {}).update(dict.fromkeys(names, config))
        for apply, named in configs.items():
            config = cto.OptimizationConfig(global_config=named.pop(None, None), op_name_configs=named)
            found.append(lambda model, a=apply, c=config, joint=depth > 0: a(model, c, joint_compression=joint))
    return found


def _configured(step: dict):
    """coremltools' function for one step, and the configuration of an operation."""
    step = dict(step)
    kind = step.pop("kind", None)
    pruner = cto.OpThresholdPrunerConfig if "threshold" in step else cto.OpMagnitudePrunerConfig
    kinds = {
        "palettize": (cto.palettize_weights, cto.OpPalettizerConfig),
        "linear": (cto.linear_quantize_weights, cto.OpLinearQuantizerConfig),
        "prune": (cto.prune_weights, pruner),
    }
    if kind not in kinds:
        raise Known("bad_request", f"scheme kind is {kind!r}", f"it can be {', '.join(kinds)}")
    apply, make = kinds[kind]
    try:
        return apply, make(**step)
    except (TypeError, ValueError) as error:
        raise Known("bad_request", f"coremltools refuses the scheme {step}: {error}") from None


class _Heard(logging.Handler):
    """What coremltools logs: nothing else says that a weight was skipped."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())

    def of(self, name: str, names) -> str:
        """Why the constant `name` was skipped. The line with the reason often names no constant, and the next one does."""
        for before, line in zip(["", *self.lines], self.lines):
            if _names(line, name):
                reason = before if before and not any(_names(before, other) for other in names) else line
                return reason.removesuffix(" Skipped.").removesuffix(" Skipped this op.").rstrip(".")
        return "it says nothing of it"


def _names(line: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", line) is not None


def _operations(model) -> dict:
    """The operations of a model with one function by the names of what they make."""
    (function,) = model.get_spec().mlProgram.functions.values()
    found = {}

    def walk(block):
        for op in block.operations:
            found.update({output.name: op for output in op.outputs})
            for inner in op.blocks:
                walk(inner)

    for block in function.block_specializations.values():
        walk(block)
    return found


def _chain(operations: dict, weight: str) -> list:
    """The `constexpr` operations that make `weight` now."""
    found, wanted = [], [weight + end for end in _ENDS]
    while wanted:
        op = operations.get(wanted.pop())
        if op is not None and op.type.startswith("constexpr_") and op not in found:
            found.append(op)
            wanted += [bound.name for given in op.inputs.values() for bound in given.arguments]
    return found


def _shows(op, operations: dict, step: dict) -> bool:
    """Whether `op` is what a step makes."""
    if op.type not in _MADE[step["kind"]]:
        return False
    return step["kind"] != "linear" or _given(op, operations, _ELEMENTS).dataType in _INTEGERS


def _given(op, operations: dict, names: tuple):
    """The tensor type of the first of the parameters `names` that `op` has."""
    name = next(name for name in names if name in op.attributes or name in op.inputs)
    if name in op.attributes:
        return op.attributes[name].type.tensorType
    bound = op.inputs[name].arguments[0]
    if bound.WhichOneof("binding") == "value":
        return bound.value.type.tensorType
    return next(out for out in operations[bound.name].outputs if out.name == bound.name).type.tensorType


def _zeros(chain: list, operations: dict, elements: int) -> dict:
    for op in chain:
        if op.type == "constexpr_sparse_to_dense":
            kept = _count(_given(op, operations, ("nonzero_data",)))
            return {"zeros": 1 - kept / elements}
    return {}


def _elements(op) -> int:
    return _count(op.outputs[0].type.tensorType)


def _count(tensor) -> int:
    return int(np.prod([dimension.constant.size for dimension in tensor.dimensions], dtype=np.int64))


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
