"""Reads packages plainly and pours a skeleton in numpy: the slow, obvious counterpart of what Rust does."""

import json
import os
import struct

import numpy as np
from coremltools.proto import Model_pb2
from safetensors.torch import load_file

from coremill import placeholders
from coremill.entry import call

_MODEL = "Data/com.apple.CoreML/model.mlmodel"
_WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def ask(op: str, **fields) -> dict:
    """The `ok` part of a response; an error fails the test with its whole text."""
    response = json.loads(call(json.dumps({"op": op, **fields})))
    assert "ok" in response, response["error"].get("traceback") or response["error"]
    return response["ok"]


def refuse(op: str, **fields) -> dict:
    """The `error` part of a response."""
    response = json.loads(call(json.dumps({"op": op, **fields})))
    assert "error" in response, response
    return response["error"]


def read(package: str):
    """The model message of a package and the bytes of its weights."""
    spec = Model_pb2.Model()
    with open(os.path.join(package, _MODEL), "rb") as file:
        spec.ParseFromString(file.read())
    weights = os.path.join(package, _WEIGHTS)
    data = b""
    if os.path.exists(weights):
        with open(weights, "rb") as file:
            data = file.read()
    return spec, data


def blob(data: bytes, offset: int) -> bytes:
    """The data of the record at `offset` of a weight.bin."""
    sentinel, _, size, start = struct.unpack_from("<IIQQ", data, offset)
    assert sentinel == 0xDEADBEEF
    return data[start : start + size]


def values(spec):
    """Every value of a program that lies in a weight file, with its operation's name, in order."""
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            for op in block.operations:
                for value in op.attributes.values():
                    if value.WhichOneof("value") == "blobFileValue":
                        yield op.outputs[0].name, value


def block(spec):
    """The one block of a package's one function."""
    (found,) = spec.mlProgram.functions["main"].block_specializations.values()
    return found


class Source:
    """The tensors of a checkpoint and its encode adapters, as a placeholder's table entry asks for them."""

    def __init__(self, folder: str, adapters=()):
        self.tensors = {}
        for root, _, files in os.walk(folder):
            for file in files:
                if file.endswith(".safetensors"):
                    part = os.path.relpath(root, folder)
                    prefix = "" if part == "." else f"{part}/"
                    loaded = load_file(os.path.join(root, file))
                    self.tensors.update({prefix + name: tensor for name, tensor in loaded.items()})
        self.adapters = [
            (
                load_file(os.path.join(path, "adapter_model.safetensors")),
                json.load(open(os.path.join(path, "adapter_config.json"), encoding="utf-8")),
            )
            for path in adapters
        ]
        self.keys = [list(tensors) for tensors, _ in self.adapters]

    def bytes(self, entry: dict, dtype: int) -> bytes:
        """The bytes that belong in the place of a placeholder."""
        if entry["adapter"]:
            tensor = self._branch(entry)
        else:
            stored = "/".join(part for part in (entry["folder"], entry["tensor"]) if part)
            tensor = self._merged(self.tensors[stored].float(), entry)
        if entry["transpose"]:
            tensor = tensor.t()
        assert list(tensor.shape) == entry["shape"]
        return tensor.numpy().astype({10: np.float16, 11: np.float32}[dtype]).tobytes()

    def _scale(self, index: int, rank: int) -> float:
        config = self.adapters[index][1]
        return config["lora_alpha"] / (rank**0.5 if config["use_rslora"] else rank)

    def _branch(self, entry):
        index = entry["adapter"]["index"]
        tensor = self.adapters[index][0][entry["tensor"]].float()
        if entry["adapter"]["part"] == "lora_B":
            tensor = tensor * self._scale(index, tensor.shape[1])
        return tensor

    def _merged(self, tensor, entry):
        for index in entry["merged_adapters"] or []:
            module = entry["tensor"].removesuffix(".weight")
            tensors, config = self.adapters[index]
            if not any(key.endswith(f"{module}.lora_A.weight") for key in tensors):
                continue
            (a,) = (tensors[key] for key in tensors if key.endswith(f"{module}.lora_A.weight"))
            (b,) = (tensors[key] for key in tensors if key.endswith(f"{module}.lora_B.weight"))
            delta = b @ a * self._scale(index, a.shape[0])
            tensor = tensor + (delta.t() if config["fan_in_fan_out"] else delta)
        return tensor


def same_program(skeleton: str, table: list[dict], full: str, source: Source) -> int:
    """Asserts that the written skeleton is the full package; returns how many placeholders were written."""
    drawn, small = read(skeleton)
    whole, data = read(full)
    drawn_values, whole_values = list(values(drawn)), list(values(whole))
    assert [name for name, _ in drawn_values] == [name for name, _ in whole_values]
    written = 0
    for (name, mine), (_, theirs) in zip(drawn_values, whole_values):
        offset = mine.blobFileValue.offset
        if offset >= placeholders.OFFSET_BASE:
            entry = table[(offset - placeholders.OFFSET_BASE) // placeholders.OFFSET_STEP]
            found = source.bytes(entry, mine.type.tensorType.dataType)
            written += 1
        else:
            found = blob(small, offset)
        assert found == blob(data, theirs.blobFileValue.offset), name
        mine.blobFileValue.offset = theirs.blobFileValue.offset = 0
    # Operation by operation, so that a difference names its place.
    for mine, theirs in zip(block(drawn).operations, block(whole).operations):
        assert mine == theirs
    assert drawn == whole
    return written
