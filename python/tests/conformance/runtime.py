"""What coremltools loads and predicts with on a Mac (`libcoremlpython._MLModelProxy`), answered by `coremill predict`.

Only the part that its op tests reach: a model from a package, a prediction, a state. Everything around it, the checks
of inputs among them, is coremltools' own code.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from coremltools import proto
from safetensors.numpy import load_file, save_file

# Core ML has no limit on time; a case that takes longer than this hangs.
SECONDS = 120

# An operation that was reached and did not take its arguments.
REFUSED = re.compile(r"error: operation `[^`]*` \(`[^`]*`\) failed: ")


class Failed(RuntimeError):
    """`coremill predict` refused or failed; the message is what it said."""


def run(package: str, function: str, inputs: dict, state: "State | None") -> dict:
    """One prediction: arrays in, arrays out, the state changed in place."""
    with tempfile.TemporaryDirectory(prefix="coremill-conformance-") as folder:
        given, found = Path(folder, "inputs.safetensors"), Path(folder, "outputs.safetensors")
        save_file({name: np.ascontiguousarray(value) for name, value in inputs.items()}, given)
        command = [os.environ["COREMILL"], "--quiet", "predict", package]
        command += ["--inputs", str(given), "--outputs", str(found)]
        command += ["--function", function] if function else []
        command += ["--state", str(state.path)] if state else []
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            raise Failed(done.stderr.strip() or f"exit code {done.returncode}")
        return load_file(found)


class State:
    """A model's states between predictions: a file that `coremill predict` reads and writes back."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="coremill-conformance-")
        self.path = Path(self.folder.name, "state.safetensors")


class Model:
    """Stands in for `_MLModelProxy`. The class keeps what one case does: how many predictions it asks for and with which
    outputs, which operations the asked models have, which packages it makes."""

    predicted = 0
    kinds: set = set()
    packages: list = []
    outputs: dict = {}
    # Of the comparison that ended the case: whether fp16 has the numbers to pass it, and how far it failed by.
    unmeetable = False
    steps = 0.0

    def __init__(self, path, compute_units, function, hints, asset):
        self.path, self.function = path, function
        Model.packages.append(path)

    @classmethod
    def forget(cls) -> None:
        """Ends a case. coremltools removes a package only when Python ends, after thousands of them."""
        for path in cls.packages:
            if Path(path).is_relative_to(tempfile.gettempdir()):
                shutil.rmtree(path, ignore_errors=True)
        cls.predicted, cls.kinds, cls.packages = 0, set(), []
        cls.outputs, cls.unmeetable, cls.steps = {}, False, 0.0

    @staticmethod
    def maximum_supported_specification_version() -> int:
        return 9

    def predict(self, data: dict, state: "State | None") -> dict:
        Model.predicted += 1
        Model.kinds |= operations(self.path)
        try:
            Model.outputs = run(self.path, self.function, data, state)
            return Model.outputs
        except Failed as failed:
            if REFUSED.match(str(failed)):
                # The framework's words, which some cases ask for.
                raise RuntimeError(f"Unable to compute the prediction using ML Program: {failed}") from failed
            raise

    def newState(self) -> State:  # noqa: N802, the framework's own name
        return State()


def operations(package: str) -> set:
    """The kinds of operations in a package's program."""
    path = Path(package, "Data", "com.apple.CoreML", "model.mlmodel")
    if not path.is_file():
        return {"(not an ML program)"}
    model = proto.Model_pb2.Model.FromString(path.read_bytes())
    kinds, blocks = set(), []
    for function in model.mlProgram.functions.values():
        blocks.append(function.block_specializations[function.opset])
    while blocks:
        for op in blocks.pop().operations:
            kinds.add(op.type)
            blocks.extend(op.blocks)
    return kinds - {"const"}
