"""coremltools' compression and what it reads back, through the two requests."""

import hashlib

import coremltools as ct
import numpy as np
import pytest
import tiny
from poured import ask, blob, read, refuse, values
from safetensors.numpy import load_file

WEIGHT = "model_layers_0_mlp_gate_proj_weight_to_fp16"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compressed")
    out = str(folder / "decode.mlpackage")
    model = tiny.checkpoint(folder, "llama")
    ask("convert_full", model=model, out=out, seq_len=32, prompt_chunk=16, functions=["decode"])
    return out


def weight(package: str) -> np.ndarray:
    """The weight as the fp16 package holds it."""
    spec, data = read(package)
    (value,) = (value for name, value in values(spec) if name == WEIGHT)
    return np.frombuffer(blob(data, value.blobFileValue.offset), np.float16).reshape(80, 48)


SCHEMES = [
    # The bound on the mean error relative to the mean magnitude is a rough one: the right weights, the right form.
    ({"kind": "palettize", "mode": "uniform", "nbits": 4}, 0.2),
    (
        {"kind": "palettize", "mode": "uniform", "nbits": 4, "granularity": "per_grouped_channel", "group_size": 16},
        0.2,
    ),
    ({"kind": "palettize", "mode": "kmeans", "nbits": 6}, 0.05),
    ({"kind": "linear", "mode": "linear_symmetric", "dtype": "int8", "granularity": "per_channel"}, 0.02),
    ({"kind": "linear", "mode": "linear", "dtype": "int4", "granularity": "per_block", "block_size": 16}, 0.15),
]


@pytest.mark.parametrize(("scheme", "bound"), SCHEMES, ids=lambda value: str(value))
def test_compressed_and_read_back(package, tmp_path, scheme, bound):
    out, dense = str(tmp_path / "small.mlpackage"), str(tmp_path / "dense.safetensors")
    ask("quantize_reference", package=package, scheme=scheme, out=out)
    response = ask("dequantize", package=out, out=dense)
    found = load_file(dense)
    assert sorted(found) == response["compressed"]
    (name,) = (name for name in found if "gate_proj" in name and "layers_0" in name)
    expected = weight(package)
    assert found[name].shape == expected.shape
    error = np.abs(found[name].astype(np.float32) - expected).mean() / np.abs(expected).mean()
    assert 0 < error < bound


def test_plain_constants_are_listed(package, tmp_path):
    response = ask("dequantize", package=package, out=str(tmp_path / "none.safetensors"))
    assert response["compressed"] == []
    digest = hashlib.sha256(weight(package).tobytes()).hexdigest()
    assert response["constants"]["main"][WEIGHT] == {"dtype": "float16", "shape": [80, 48], "sha256": digest}


def test_multifunction_package(tmp_path):
    out = str(tmp_path / "both.mlpackage")
    model = tiny.checkpoint(tmp_path, "llama_tied_scaled")
    written = ask("convert_full", model=model, out=out, seq_len=32, prompt_chunk=16)["functions"]
    assert [entry["name"] for entry in written] == ["init", "decode"]
    spec = ct.models.MLModel(out, skip_model_load=True, function_name="decode").get_spec()
    assert set(spec.mlProgram.functions) == {"init", "decode"}
    offsets = {}
    for name, value in values(spec):
        offsets.setdefault(name, set()).add(value.blobFileValue.offset)
    assert len(offsets[WEIGHT]) == 1


@pytest.mark.parametrize("scheme", [{"kind": "melt"}, {"kind": "palettize", "nbits": 5, "mode": "kmeans"}, {}])
def test_refused_schemes(package, tmp_path, scheme):
    error = refuse("quantize_reference", package=package, scheme=scheme, out=str(tmp_path / "x.mlpackage"))
    assert error["kind"] == "bad_request"
