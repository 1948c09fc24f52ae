"""The hooks into coremltools that keep placeholders from ever being written out in full.

Each stands in for one named function of coremltools; `HOOKS` is the whole list. They are applied by
`placeholders_stay_small` and undone when it ends. The digests are those of the sources they were written against:
`moved` names what has changed since.
"""

import hashlib
import importlib
import inspect
import sys
from contextlib import contextmanager

import numpy as np
from coremltools.converters.mil.mil.types import string_to_nptype

from . import placeholders
from .errors import Known


def _get_cast_value(original):
    """Casting a placeholder casts its one element."""

    def get_cast_value(cls, input_var, dtype_val):
        value = input_var.val
        if placeholders.is_spread(value):
            one = value[(0,) * value.ndim].astype(string_to_nptype(dtype_val))
            return np.broadcast_to(one, value.shape)
        return original.__func__(cls, input_var, dtype_val)

    return classmethod(get_cast_value)


def _fp16_overflow(original):
    """A placeholder's one element fits fp16; only the other constants of an operation can overflow."""

    def fp16_overflow(op):
        return original(_WithoutPlaceholders(op))

    return staticmethod(fp16_overflow)


class _WithoutPlaceholders:
    """An operation as `fp16_overflow` sees it: its inputs without the placeholders."""

    def __init__(self, op):
        self.inputs = {name: value for name, value in op.inputs.items() if not _holds_placeholder(value)}


def _holds_placeholder(value) -> bool:
    if isinstance(value, (list, tuple)):
        return any(placeholders.is_spread(part.val) for part in value)
    return placeholders.is_spread(value.val)


def _check_underflow_to_zero(original):
    """A placeholder's value is exact in fp16, so nothing underflows."""

    def check(self, new_var, var):
        if not placeholders.is_spread(var.val):
            original(self, new_var, var)

    return check


def _type_value_inference(original):
    """Repeating the inference on an operation that gave a placeholder would compare all its elements."""

    def infer(self, overwrite_output=False):
        outputs = self._output_vars
        if self.op_type in ("const", "cast") and outputs and placeholders.is_spread(outputs[0].val):
            return None
        return original(self, overwrite_output)

    return infer


def _auto_val(original):
    """Computing with a placeholder's value would give a constant that is neither a weight nor its placeholder."""

    def auto_val(self, output_types):
        values = original(self, output_types)
        if self.op_type not in ("const", "cast") and any(value is not None for value in values):
            if any(_holds_placeholder(value) for value in self.inputs.values()):
                raise Known("conversion_failed", f"operation `{self.name}` (`{self.op_type}`) would fold a weight")
        return values

    return auto_val


def _find_constants(original):
    """Placeholders are the same constant when their id, shape and type are; no element is compared."""

    def find_constants(blocks):
        groups, found = {}, {}
        for block in blocks:
            for op in block.operations:
                value = op.outputs[0].val if op.op_type == "const" else None
                if placeholders.is_spread(value):
                    key = (placeholders.identity(value), value.shape, value.dtype)
                    groups.setdefault(key, []).append(op.outputs[0])
        for first, *others in groups.values():
            found[first] = others
        return {**found, **original(blocks)}

    return staticmethod(find_constants)


def _should_be_deduplicated(original):
    """Keeps placeholders out of the search by value."""
    return staticmethod(lambda value: not placeholders.is_spread(value) and original(value))


def _get_offset_by_writing_data(original):
    """Instead of its data, the offset that names the placeholder."""

    def write(output_var, blob_writer):
        if placeholders.is_spread(output_var.val):
            return placeholders.offset(placeholders.identity(output_var.val))
        return original(output_var, blob_writer)

    return write


def _should_use_weight_file(original):
    """A placeholder of fewer than ten elements goes to the file of weights too: its value in the program would stay."""

    def use(val, specification_version=None):
        more = () if specification_version is None else (specification_version,)
        return placeholders.is_placeholder(val) or original(val, *more)

    return use


_MIL = "coremltools.converters.mil"
_DEDUPLICATION = f"{_MIL}.mil.passes.defs.cleanup.const_deduplication"
_FP16 = f"{_MIL}.mil.passes.defs.quantization"

# Module, attribute path, hook, digest of the source it stands in for.
HOOKS = [
    (f"{_MIL}.mil.ops.defs.iOS15.elementwise_unary", "cast.get_cast_value", _get_cast_value, "349994c9a45ae8e0"),
    (_FP16, "FP16ComputePrecision.fp16_overflow", _fp16_overflow, "16442a50be56e0f9"),
    (_FP16, "FP16ComputePrecision._check_underflow_to_zero", _check_underflow_to_zero, "ca65abdf8aafa58d"),
    (f"{_MIL}.mil.operation", "Operation.type_value_inference", _type_value_inference, "14f8fdda0e010451"),
    (f"{_MIL}.mil.operation", "Operation._auto_val", _auto_val, "1e264d8ad701aa1b"),
    (_DEDUPLICATION, "const_deduplication.find_constants", _find_constants, "103228f30c480990"),
    (_DEDUPLICATION, "const_deduplication.should_be_deduplicated", _should_be_deduplicated, "bf2c5ae679d1d324"),
    (f"{_MIL}.backend.mil.load", "should_use_weight_file", _should_use_weight_file, "925107cc8ec3b6fd"),
    (f"{_MIL}.backend.mil.helper", "_get_offset_by_writing_data", _get_offset_by_writing_data, "5759e5ade997accd"),
]


@contextmanager
def placeholders_stay_small():
    """Applies all hooks for the time of a conversion."""
    undo = []
    try:
        for module, path, hook, _ in HOOKS:
            owner, name, current = _locate(module, path)
            undo.append((owner, name, vars(owner)[name]))
            setattr(owner, name, hook(current))
        yield
    finally:
        for owner, name, stored in reversed(undo):
            setattr(owner, name, stored)


def moved() -> list[str]:
    """What no longer has the source that its hook was written against."""
    changed = []
    for module, path, _, digest in HOOKS:
        try:
            _, _, current = _locate(module, path)
        except (ImportError, AttributeError) as error:
            changed.append(f"{module}.{path} is gone: {error}")
            continue
        found = source_digest(current)
        if found != digest:
            changed.append(f"{module}.{path} has source digest {found}, the hook was written against {digest}")
    return changed


def source_digest(function) -> str:
    """The first 16 digits of the SHA-256 of a function's source."""
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]


def _locate(module: str, path: str):
    """The object that holds a function, the function's name in it, and the function as looked up there."""
    importlib.import_module(module)
    # A package may re-export a class under its module's name, so the module itself comes from the table of modules.
    owner = sys.modules[module]
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name, getattr(owner, name)
