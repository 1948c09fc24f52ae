"""coremltools' compression and what it reads back, through the two requests."""

import hashlib
import json
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
import tiny
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from written import ask, blob, read, refuse, values
from safetensors.numpy import load_file

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures"
# What coremltools stores, by package and scheme: `make.py` beside it.
STORED = json.loads((FIXTURES / "compression" / "coremltools.json").read_text())["packages"]
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
    ask("quantize_reference", package=package, rules=[{"scheme": [scheme]}], out=out)
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


# Package, scheme, the weights that coremltools leaves, and of which step.
STORED_CASES = [
    ("dense_ios16", "uniform4-t", {}),
    ("dense_ios16", "int8-c-asym", {}),
    ("dense_ios16", "sparse50-b4", {}),
    ("dense_ios18", "uniform4-g16", {"conv_transpose_weight": "palettize"}),
    ("dense_ios18", "uniform4-g8-si", {}),
    ("dense_ios18", "unique-t-v2", {name: "palettize" for name in ("linear", "conv", "conv_transpose", "matmul", "blank")}),
    ("dense_ios18", "int4-b16-asym", {}),
    ("dense_ios18", "int4-b1x8x0x0", {}),
    ("dense_ios18", "sparse2:4", {}),
    ("dense_ios18", "below0.02", {name: "prune" for name in ("matmul", "embedding")}),
    ("dense_ios18", "sparse50+int8-c", {}),
    ("dense_ios18", "sparse50+uniform4-g8+lut8", {}),
    # A table of four entries, and one that stands behind a scale.
    ("dense_ios18", "pal2-t+lut8", {name: "linear" for name in ("linear", "conv", "conv_transpose", "matmul", "embedding", "blank")}),
    ("dense_ios18", "uniform4-g8-si+lut8", {name: "linear" for name in ("linear", "conv", "conv_transpose", "matmul", "embedding", "blank")}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "scheme", "left"), STORED_CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_what_coremltools_is_known_to_store(tmp_path, name, scheme, left):
    package, entry = FIXTURES / "compression" / f"{name}.mlpackage", STORED[name][scheme]
    names = [line["weight"] for line in entry["weights"]]
    out, dense = str(tmp_path / "small.mlpackage"), str(tmp_path / "dense.safetensors")
    rules = [{"scheme": entry["steps"], "weights": names}]
    response = ask("quantize_reference", package=str(package), rules=rules, out=out)
    left = {f"{weight.removesuffix('_weight')}_weight": step for weight, step in left.items()}
    assert {line["weight"]: line["step"] for line in response["skipped"]} == left
    assert all(line["reason"] and not line["small"] for line in response["skipped"])
    assert {line["weight"] for line in response["compressed"]} == set(names) - set(left)
    if "sparse" in scheme:
        assert all(0.45 < line["zeros"] < 0.6 for line in response["compressed"] if line["weight"] != "blank_weight")
    ask("dequantize", package=out, out=dense)
    found = {hashlib.sha256(value.tobytes()).hexdigest()[:32] for value in load_file(dense).values()}
    # k-means depends on the machine; all else is the same everywhere.
    if not scheme.startswith("pal"):
        assert {line["dequantized_sha256"] for line in entry["weights"] if "ops" in line} <= found


def test_rules_for_single_weights(tmp_path):
    out = str(tmp_path / "mixed.mlpackage")
    table = {
        "linear_weight": "int8-c",
        "conv_weight": "sparse50+int8-c",
        "matmul_weight": "uniform4-t",
        "embedding_weight": "uniform4-t+lut8",
    }
    known = STORED["dense_ios18"]
    rules = [{"scheme": known[scheme]["steps"], "weights": [weight]} for weight, scheme in table.items()]
    package = str(FIXTURES / "compression" / "dense_ios18.mlpackage")
    response = ask("quantize_reference", package=package, rules=rules, out=out)
    assert [line["weight"] for line in response["compressed"]] == list(table)
    assert response["skipped"] == []
    response = ask("dequantize", package=out, out=str(tmp_path / "dense.safetensors"))
    found = {hashlib.sha256(v.tobytes()).hexdigest()[:32] for v in load_file(str(tmp_path / "dense.safetensors")).values()}
    for weight, scheme in table.items():
        (line,) = (line for line in known[scheme]["weights"] if line["weight"] == weight)
        assert line["dequantized_sha256"] in found
    assert {"blank_weight", "conv_transpose_weight"} <= response["constants"]["main"].keys()


def test_a_weight_below_the_threshold(tmp_path):
    rule = {"scheme": [{"kind": "palettize", "mode": "uniform", "nbits": 4}], "weights": ["linear_0_weight_0_to_fp16"]}
    package, out = str(FIXTURES / "tiny.mlpackage"), str(tmp_path / "x.mlpackage")
    (line,) = ask("quantize_reference", package=package, rules=[rule], out=out)["skipped"]
    assert line["small"] and line["reason"] == "2048 elements are below coremltools' threshold"


def test_a_reason_stands_in_the_line_before(tmp_path):
    rule = {"scheme": STORED["dense_ios18"]["uniform4-g16"]["steps"], "weights": ["linear_weight", "conv_transpose_weight"]}
    package, out = str(FIXTURES / "compression" / "dense_ios18.mlpackage"), str(tmp_path / "x.mlpackage")
    (line,) = ask("quantize_reference", package=package, rules=[rule], out=out)["skipped"]
    assert line["reason"] == (
        "Can't perform palettization: The number of channels at 1th axis (24) is not divisible by channel_group_size (16)"
    )


def test_a_large_weight_keeps_every_value(tmp_path):
    # np.percentile of more than 65,520 fp16 values is NaN, and no magnitude is at most NaN.
    weight = np.random.default_rng(1).normal(0, 0.02, (256, 256)).astype(np.float16)

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 256), dtype=types.fp16)], opset_version=ct.target.iOS18)
    def prog(x):
        return mb.linear(x=x, weight=mb.const(val=weight, name="large"), name="y")

    package, out = str(tmp_path / "dense.mlpackage"), str(tmp_path / "sparse.mlpackage")
    ct.convert(prog, minimum_deployment_target=ct.target.iOS18, skip_model_load=True).save(package)
    rule = {"scheme": [{"kind": "prune", "target_sparsity": 0.5}], "weights": ["large"]}
    (line,) = ask("quantize_reference", package=package, rules=[rule], out=out)["compressed"]
    assert line == {"weight": "large", "zeros": float(np.mean(weight == 0))}
    assert line["zeros"] < 0.01


DENSE = "compression/dense_ios16.mlpackage"
PALETTE = {"kind": "palettize", "mode": "uniform", "nbits": 4}


@pytest.mark.parametrize(
    ("package", "rule", "kind", "said"),
    [
        (DENSE, {"scheme": [{"kind": "melt"}]}, "bad_request", "scheme kind is 'melt'"),
        (DENSE, {"scheme": [{}]}, "bad_request", "scheme kind is None"),
        (DENSE, {"scheme": [{**PALETTE, "nbits": 5}]}, "bad_request", 'Invalid value of "nbits" (5)'),
        (DENSE, {"scheme": [PALETTE], "weights": ["nobody"]}, "bad_request", "package has no constant 'nobody'"),
        (DENSE, {"scheme": [{**PALETTE, "cluster_dim": 2}]}, "conversion_failed", "supported since iOS18"),
        ("tiny_multifunction.mlpackage", {"scheme": [PALETTE]}, "bad_request", "this one has 2: first, second"),
    ],
)
def test_refused(tmp_path, package, rule, kind, said):
    out = tmp_path / "x.mlpackage"
    error = refuse("quantize_reference", package=str(FIXTURES / package), rules=[rule], out=str(out))
    assert error["kind"] == kind and said in error["message"]
    assert not out.exists()
