"""Runs a package with coremltools' own value inference, operation by operation: slow, and independent of torch."""

import coremltools as ct
import numpy as np
from coremltools.converters.mil.frontend.milproto.load import load
from coremltools.converters.mil.mil import types

# Operations that coremltools converts but cannot compute.
_MISSING = {"silu": lambda op: op.x.val / (1 + np.exp(-op.x.val))}


class Package:
    """A single-function package to run; `states` may be given those of another, to share them."""

    def __init__(self, path: str, states: dict[str, np.ndarray] | None = None):
        model = ct.models.MLModel(path, skip_model_load=True)
        spec = model.get_spec()
        program = load(spec, specification_version=spec.specificationVersion, file_weights_dir=model.weights_dir)
        self.function = program.functions["main"]
        self.states = {} if states is None else states

    def __call__(self, **inputs) -> dict[str, np.ndarray]:
        """Outputs by name for inputs by name."""
        for name, variable in self.function.inputs.items():
            if types.is_state(variable.sym_type):
                shape = variable.sym_type.wrapped_type().get_shape()
                self.states.setdefault(name, np.zeros(shape, np.float16))
            else:
                kind = types.nptype_from_builtin(variable.dtype)
                assert variable.shape == np.shape(inputs[name]), name
                _put(variable, np.asarray(inputs[name], kind))
        for op in self.function.operations:
            if op.op_type != "const":
                self._run(op)
        return {variable.name: variable.val for variable in self.function.outputs}

    def _run(self, op) -> None:
        if op.op_type == "read_state":
            values = self.states[op.input.name]
        elif op.op_type == "coreml_update_state":
            values = self.states[op.state.name] = op.value.val
        elif op.op_type in _MISSING:
            values = _MISSING[op.op_type](op)
        else:
            values = op.value_inference()
        for variable, value in zip(op.outputs, values if isinstance(values, tuple) else (values,)):
            assert np.shape(value) == variable.shape, op.name
            _put(variable, np.asarray(value, types.nptype_from_builtin(variable.dtype)))


def _put(variable, value: np.ndarray) -> None:
    """Gives a variable of a program a value."""
    typed = variable.sym_type()
    typed.val = value if value.shape else value[()]
    variable._sym_val = typed
