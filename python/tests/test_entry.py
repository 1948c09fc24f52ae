"""Requests that must be refused, each with its kind and a message that holds the values."""

import json
import shutil

import pytest
import tiny
from written import ask, refuse

from coremill.entry import OPERATIONS, call


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("entry")


def changed(folder, name: str, **settings) -> str:
    """A copy of the tiny Llama with other settings in its configuration."""
    path = folder / name
    shutil.copytree(tiny.checkpoint(folder, "llama"), path, dirs_exist_ok=True)
    config = json.loads((path / "config.json").read_text())
    config.update(settings)
    (path / "config.json").write_text(json.dumps(config))
    return str(path)


def without(folder, name: str, file: str) -> str:
    path = folder / name
    shutil.copytree(tiny.checkpoint(folder, "llama"), path, dirs_exist_ok=True)
    (path / file).unlink()
    return str(path)


def truncated(folder) -> str:
    path = folder / "truncated"
    shutil.copytree(tiny.checkpoint(folder, "llama"), path, dirs_exist_ok=True)
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    return str(path)


GROWING = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}

CASES = [
    ("unknown architecture", lambda f: changed(f, "t5", model_type="t5"), {}, "unsupported_architecture", "`t5`"),
    (
        "rotary embedding that grows within the sequence length",
        lambda f: changed(f, "dynamic", rope_parameters={**GROWING, "original_max_position_embeddings": 16}),
        {},
        "unsupported_architecture",
        "`dynamic` changes with the length of the text beyond 16",
    ),
    ("no folder", lambda f: str(f / "nowhere"), {}, "bad_checkpoint", "nowhere"),
    ("no config", lambda f: without(f, "noconfig", "config.json"), {}, "bad_checkpoint", "config.json is missing"),
    ("no weights", lambda f: without(f, "noweights", "model.safetensors"), {}, "bad_checkpoint", "model.safetensors"),
    ("cut short", truncated, {}, "bad_checkpoint", "not a readable safetensors file"),
    ("a layer more", lambda f: changed(f, "deep", num_hidden_layers=3), {}, "bad_checkpoint", "9 tensors are missing"),
    ("other vocabulary", lambda f: changed(f, "wide", vocab_size=100), {}, "bad_checkpoint", "shape [96, 48]"),
    ("too long", None, {"seq_len": 128}, "bad_request", "128 is beyond the model's 64"),
    ("uneven chunk", None, {"seq_len": 32, "prompt_chunk": 12}, "bad_request", "32 is not a multiple"),
    ("old target with states", None, {"target": "iOS17"}, "bad_request", "iOS17 has no states"),
    ("unknown function", None, {"functions": ["predict"]}, "bad_request", "`predict`"),
    ("unknown choice", None, {"kv_cache": "none"}, "bad_request", "'none'"),
    ("unknown field", None, {"speed": 3}, "bad_request", "speed"),
    ("no adapter", None, {"functions": ["encode"], "encode_adapters": ["/nowhere"]}, "bad_adapter", "/nowhere"),
]


@pytest.mark.parametrize(("model", "fields", "kind", "told"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_refused(folder, tmp_path, model, fields, kind, told):
    path = model(folder) if model else tiny.checkpoint(folder, "llama")
    error = refuse("skeleton", **{"model": path, "out": str(tmp_path / "out"), "seq_len": 32, **fields})
    assert error["kind"] == kind, error
    assert told in error["message"]
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_adapter_of_another_base(folder, tmp_path):
    adapter = tiny.adapter(folder, "gpt2", 1)
    error = refuse(
        "skeleton",
        model=tiny.checkpoint(folder, "llama"),
        out=str(tmp_path),
        seq_len=32,
        functions=["encode"],
        encode_adapters=[adapter],
    )
    assert error["kind"] == "bad_adapter"
    assert "c_attn" in error["message"]


def test_adapter_of_another_width(folder, tmp_path):
    wide = folder / "wide"
    adapter = tiny.adapter(wide, "mistral", 1)
    error = refuse(
        "skeleton",
        model=tiny.checkpoint(folder, "llama"),
        out=str(tmp_path),
        seq_len=32,
        functions=["encode"],
        encode_adapters=[adapter],
    )
    assert error["kind"] == "bad_adapter"
    assert "[12, 48] and [64, 12]" in error["message"]


def test_adapter_that_cannot_be_branches(folder, tmp_path):
    adapter = tiny.adapter(folder, "llama", 1, use_dora=True)
    request = {"model": tiny.checkpoint(folder, "llama"), "seq_len": 32, "functions": ["encode"]}
    error = refuse("skeleton", out=str(tmp_path), encode_adapters=[adapter], **request)
    assert error["kind"] == "bad_adapter"
    assert "DoRA" in error["message"]


@pytest.mark.parametrize(("op", "out"), [("skeleton", ""), ("convert_full", "encode.mlpackage")])
def test_nothing_is_overwritten(folder, tmp_path, op, out):
    taken = tmp_path / "encode.mlpackage"
    taken.mkdir()
    (taken / "precious").write_text("kept")
    error = refuse(op, model=tiny.checkpoint(folder, "bert"), out=str(tmp_path / out), seq_len=32)
    assert error["kind"] == "output_exists"
    assert [path.name for path in tmp_path.rglob("*")] == ["encode.mlpackage", "precious"]


def test_unknown_operation():
    error = refuse("melt")
    assert error["kind"] == "bad_request"
    assert all(name in error["hint"] for name in OPERATIONS)


@pytest.mark.parametrize("request_text", ["", "[]", "{", '{"op": ["skeleton"]}'])
def test_nothing_is_raised(request_text):
    assert "error" in json.loads(call(request_text))


def test_internal_errors_carry_their_traceback(folder):
    error = refuse("reference_generate", model=tiny.checkpoint(folder, "llama"))
    assert error["kind"] == "internal"
    assert "KeyError" in error["message"]
    assert "Traceback" in error["traceback"]


def test_versions():
    libraries = {"torch", "transformers", "peft", "sentence-transformers", "tokenizers", "coremltools", "numpy", "safetensors"}
    assert set(ask("versions")) == {"python", *libraries}


def test_facts(folder, tmp_path):
    drawn = ask("skeleton", model=tiny.checkpoint(folder, "mistral"), out=str(tmp_path), seq_len=32, prompt_chunk=16)
    assert drawn["facts"] == {
        "architecture": "MistralForCausalLM",
        "model_type": "mistral",
        "kind": "decoder",
        "layers": 2,
        "hidden": 48,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "intermediate": 80,
        "vocab": 96,
        "max_position_embeddings": 64,
        "max_seq_length": None,
        "tied_head": False,
        "sliding_window": 11,
        "special_tokens": {"bos": [1], "eos": [2], "pad": []},
    }
    init, decode = drawn["functions"]
    cache = [{"name": name, "shape": [2, 2, 32, 16], "dtype": "fp16"} for name in ("keyCache", "valueCache")]
    assert (init["states"], decode["states"]) == (cache, cache)
    assert [port["name"] for port in init["inputs"]] == ["input_ids", "position", "length"]
    assert decode["outputs"] == [{"name": "logits", "shape": [1, 96], "dtype": "fp16"}]
