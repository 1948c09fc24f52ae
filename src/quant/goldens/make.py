"""Writes coremltools.json: what coremltools stores for small weights, for the tests of `quant`.

    python src/quant/goldens/make.py

Needs coremltools 9.0, scikit-learn 1.5.1 and kmeans1d 0.5.0. Arrays are hexadecimal, little endian.
"""

import json
import os
import tempfile
from pathlib import Path

import coremltools.libmilstoragepython as storage
import numpy as np
from coremltools.models.neural_network.quantization_utils import _get_kmeans_lookup_table_and_weight as kmeans
from coremltools.optimize.coreml._quantization_passes import linear_quantize_weights

random = np.random.default_rng(20)

SCHEMES = [
    ("int8-t", "int8", "LINEAR_SYMMETRIC", [0, 0]),
    ("int8-c", "int8", "LINEAR_SYMMETRIC", [1, 0]),
    ("int4-c", "int4", "LINEAR_SYMMETRIC", [1, 0]),
    ("int4-b16", "int4", "LINEAR_SYMMETRIC", [1, 16]),
    ("uint8-c", "uint8", "LINEAR", [1, 0]),
    ("uint4-b16", "uint4", "LINEAR", [1, 16]),
]


def linear(weight, dtype, mode, block, keep):
    params = linear_quantize_weights.blockwise_compress_by_dtype(weight, dtype, mode, block)
    stored = {"data": params.data.astype(np.uint8).tobytes().hex(), "scale": params.scale.astype("<f2").tobytes().hex()}
    if params.offset is not None:
        stored["offset"] = params.offset.astype(np.uint8).tobytes().hex()
    # Bytes are few enough for one weight only.
    if keep:
        stored["dequantized"] = linear_quantize_weights.decompress(params).astype("<f2").tobytes().hex()
    return stored


def squared_error(weight, bits, group_size, exact):
    """The error of coremltools' palette after its table is rounded to fp16, indices as it leaves them."""
    total = 0.0
    for group in np.split(weight, weight.shape[0] // group_size):
        lut, indices = kmeans(bits, group, force_kmeans1d=exact)
        restored = lut.astype(np.float16).flatten()[indices].reshape(group.shape)
        total += float(np.sum((group.astype(np.float64) - restored.astype(np.float64)) ** 2))
    return total


def blob(elements, bits, signed):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "weight.bin")
        writer = storage._BlobStorageWriter(path)
        record = getattr(writer, f"write_{'int' if signed else 'uint'}{bits}_data")(elements)
        del writer
        content = Path(path).read_bytes()
    size, offset = np.frombuffer(content[record + 8 : record + 24], "<u8")
    return content[int(offset) : int(offset + size)]


def weights():
    normal = random.normal(0, 0.02, (32, 32))
    yield "normal", normal
    yield "heavy_tail", normal / (0.05 + random.random((32, 32)))
    yield "one_sign", np.abs(normal) + 0.01
    yield "large", normal * 150_000
    yield "tiny", normal * 1e-3
    rows = normal.copy()
    rows[3] = 0.25
    rows[4] = -0.25
    rows[5, ::2] = 0
    yield "plain_rows", rows
    # Quotients that stand half way between two integers.
    yield "ties", (random.integers(-14, 15, (32, 32)) / 2 + np.where(np.arange(32) == 0, 7, 0)) / 64


result = {"weights": [], "packed": []}
for name, weight in weights():
    weight = weight.astype(np.float16)
    result["weights"].append({
        "name": name,
        "rows": weight.shape[0],
        "cols": weight.shape[1],
        "values": weight.astype("<f2").tobytes().hex(),
        "linear": {
            scheme: linear(weight, dtype, mode, block, name == "normal")
            for scheme, dtype, mode, block in SCHEMES
            # coremltools' zero point overflows fp16 for large weights.
            if mode == "LINEAR_SYMMETRIC" or name != "large"
        },
        # The squared error of the clustering that coremltools chooses by default, and with kmeans1d everywhere.
        "palette": {
            scheme: {"default": squared_error(weight, bits, group, False), "kmeans1d": squared_error(weight, bits, group, True)}
            for scheme, bits, group in [("pal4-g16", 4, 16), ("pal2-t", 2, 32), ("pal6-t", 6, 32), ("pal3-g8", 3, 8), ("pal1-t", 1, 32), ("pal8-t", 8, 32)]
        },
    })
for bits, signed in [(1, False), (2, False), (3, False), (4, False), (4, True), (6, False)]:
    for n in (1, 7, 8, 13, 40):
        elements = random.integers(0, 1 << bits, n).astype(np.uint8)
        if signed:
            elements = (elements.astype(np.int8) - (1 << bits - 1)).astype(np.int8)
        result["packed"].append({"bits": bits, "elements": elements.tobytes().hex(), "bytes": blob(elements, bits, signed).hex()})

Path(__file__).with_name("coremltools.json").write_text(json.dumps(result, indent=0) + "\n")
