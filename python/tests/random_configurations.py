"""Random configurations of every family, converted by the real binary and compared with transformers in f32.

A draw is a function of the family and a seed alone. `python tests/random_configurations.py --count 20 --first 100` tries more than
the fixed sample of `test_random_configurations.py`; a failure prints the configuration with the command that repeats it.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import cases
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neo", "bert")
# Positions of the cache, tokens of a chunk and tokens compared: three chunks, the last one short, and four steps.
LENGTH, CHUNK, PROMPT, STEPS = 64, 16, 41, 4
# Relative error of the logits, √(Σ (x - r)² / Σ r²) about their means: fp16 leaves 0.002 to 0.01 of these models, and whatever is
# computed otherwise than it was meant 0.1 at least.
LIMIT = 0.04
VOCAB = 300


def draw(family: str, seed: int) -> dict:
    """Settings of a valid configuration: `config` for transformers, `generation` of the file, `cache` of the package."""
    rng = random.Random(f"{family} {seed}")
    config = {"gpt2": _gpt2, "gpt_neo": _gpt_neo, "bert": _bert}.get(family, _llama_like)(family, rng)
    return {"config": config, "generation": rng.choice((4, 5)), "cache": rng.choice(("state", "io")), "seed": seed}


def _llama_like(family: str, rng: random.Random) -> dict:
    heads = rng.choice((1, 2, 3, 4, 5, 6))
    head_dim = rng.choice((8, 16, 24, 32))
    own = family != "qwen2"
    config = {
        "num_attention_heads": heads,
        "num_key_value_heads": rng.choice([n for n in range(1, heads + 1) if heads % n == 0]),
        "hidden_size": heads * (rng.choice((10, 14, 20)) if own else head_dim),
        "intermediate_size": rng.choice((64, 88, 112)),
        "num_hidden_layers": rng.choice((1, 2, 3)),
        "hidden_act": rng.choice(("silu", "silu", "gelu", "gelu_pytorch_tanh", "relu")),
        "rms_norm_eps": rng.choice((1e-6, 1e-5, 1e-3)),
        "max_position_embeddings": rng.choice((64, 128, 4096)),
        "tie_word_embeddings": rng.random() < 0.5,
        "rope_parameters": _rope(rng),
    }
    if own:
        config["head_dim"] = head_dim
    if family == "llama":
        config |= {"attention_bias": rng.random() < 0.4, "mlp_bias": rng.random() < 0.4}
    if family == "mistral":
        config["sliding_window"] = rng.choice((None, 7, 20, 4096))
    if family == "qwen3":
        config["attention_bias"] = rng.random() < 0.4
    if family.startswith("qwen"):
        layers = config["num_hidden_layers"]
        config["use_sliding_window"] = rng.random() < 0.6
        config["sliding_window"] = rng.choice((7, 20))
        config["max_window_layers"] = rng.randint(0, layers)
        if config["use_sliding_window"] and rng.random() < 0.5:
            config["layer_types"] = [rng.choice(("full_attention", "sliding_attention")) for _ in range(layers)]
    return config


def _rope(rng: random.Random) -> dict:
    theta = rng.choice((1000.0, 10000.0, 500000.0))
    kind = rng.choice(("default", "default", "linear", "llama3", "yarn"))
    rope = {"rope_type": kind, "rope_theta": theta}
    if kind == "linear":
        rope["factor"] = rng.choice((2.0, 3.5))
    if kind == "llama3":
        rope |= {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    if kind == "yarn":
        rope |= {"factor": rng.choice((2.0, 4.0)), "original_max_position_embeddings": 32}
    return rope


def _gpt2(_family: str, rng: random.Random) -> dict:
    heads = rng.choice((1, 3, 4, 5))
    return {
        "n_head": heads,
        "n_embd": heads * rng.choice((8, 16, 20)),
        "n_layer": rng.choice((1, 2, 3)),
        "n_inner": rng.choice((None, 72)),
        "n_positions": rng.choice((64, 128)),
        "activation_function": rng.choice(("gelu_new", "gelu", "relu", "tanh", "silu")),
        "layer_norm_epsilon": rng.choice((1e-5, 1e-3)),
        "scale_attn_weights": rng.random() < 0.7,
        "scale_attn_by_inverse_layer_idx": rng.random() < 0.4,
        "reorder_and_upcast_attn": rng.random() < 0.3,
        "tie_word_embeddings": rng.random() < 0.6,
    }


def _gpt_neo(_family: str, rng: random.Random) -> dict:
    heads = rng.choice((1, 2, 3, 5))
    kinds = rng.choice(([[["global", "local"], 1]], [[["local"], 2]], [[["global"], 1], [["local", "global"], 1]]))
    return {
        "num_heads": heads,
        "hidden_size": heads * rng.choice((8, 16, 24)),
        "num_layers": sum(len(names) * count for names, count in kinds),
        "attention_types": kinds,
        "window_size": rng.choice((5, 16, 256)),
        "intermediate_size": rng.choice((None, 72)),
        "max_position_embeddings": rng.choice((64, 128)),
        "activation_function": rng.choice(("gelu_new", "gelu", "relu")),
        "layer_norm_epsilon": rng.choice((1e-5, 1e-3)),
        "tie_word_embeddings": rng.random() < 0.6,
    }


def _bert(_family: str, rng: random.Random) -> dict:
    heads = rng.choice((1, 2, 3, 5))
    return {
        "num_attention_heads": heads,
        "hidden_size": heads * rng.choice((8, 16, 20)),
        "num_hidden_layers": rng.choice((1, 2, 3)),
        "intermediate_size": rng.choice((40, 72)),
        "hidden_act": rng.choice(("gelu", "gelu_new", "relu", "silu")),
        "layer_norm_eps": rng.choice((1e-12, 1e-5)),
        "max_position_embeddings": rng.choice((64, 100)),
        "type_vocab_size": rng.choice((1, 2, 3)),
    }


def save(family: str, drawn: dict, folder: Path) -> None:
    """A checkpoint with random weights, its config.json as the drawn generation of transformers writes it."""
    if family == "bert":
        tokenizer = cases.wordpiece(folder)
        config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **drawn["config"])
        model = AutoModel.from_config(config, attn_implementation="eager")
    else:
        tokenizer = cases.bpe(folder, vocab=VOCAB)
        settings = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, **drawn["config"]}
        config = AutoConfig.for_model(family, **settings)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model = model.eval().float()
    cases.randomize(model, drawn["seed"], 0.2)
    model.save_pretrained(folder)
    if drawn["generation"] == 4:
        _as_generation_4(folder)


def _as_generation_4(folder: Path) -> None:
    """Rewrites config.json: `rope_theta` and `rope_scaling` in place of `rope_parameters`, `torch_dtype` in place of `dtype`."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters", None)
    if rope is not None:
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype", "float32")
    config["transformers_version"] = "4.57.1"
    path.write_text(json.dumps(config, indent=1))


class Caller:
    """Calls functions of a package by `predict`; states and tensors go through files."""

    def __init__(self, package: Path, folder: Path):
        self.package, self.folder = package, folder

    def __call__(self, function: str | None, inputs: dict, state: bool = False) -> dict:
        given, found = self.folder / "in.safetensors", self.folder / "out.safetensors"
        save_file({name: np.ascontiguousarray(value) for name, value in inputs.items()}, given)
        command = [os.environ["COREMILL"], "--quiet", "predict", self.package, "--inputs", given, "--outputs", found]
        command += ["--function", function] if function else []
        command += ["--state", self.folder / "state.safetensors"] if state else []
        run = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        return load_file(found)


def package_logits(call: Caller, ids: list[int], cache: str) -> dict[int, np.ndarray]:
    """The logits after some positions of `ids`: at the end of every chunk, and token by token behind the prompt."""
    found, kept = {}, {}
    for start in range(0, PROMPT, CHUNK):
        # Without states there is one chunk, as long as the cache.
        end = min(start + CHUNK, PROMPT) if cache == "state" else PROMPT
        size = CHUNK if cache == "state" else LENGTH
        chunk = np.zeros((1, size), np.int32)
        chunk[0, : end - start] = ids[start:end]
        inputs = {"input_ids": chunk, "length": np.array([end - start], np.int32)}
        if cache == "state":
            inputs["position"] = np.array([start], np.int32)
        outputs = call("init", inputs, cache == "state")
        found[end - 1] = outputs["logits"]
        if cache == "io":
            kept = {"keyCache": outputs["keyCache"], "valueCache": outputs["valueCache"]}
            break
    for position in range(PROMPT, PROMPT + STEPS):
        inputs = {"input_ids": np.array([[ids[position]]], np.int32), "position": np.array([position], np.int32)}
        outputs = call("decode", {**inputs, **kept}, cache == "state")
        found[position] = outputs["logits"]
        if cache == "io":
            kept = {"keyCache": outputs["keyCacheOut"], "valueCache": outputs["valueCacheOut"]}
    return found


def compare_decoder(call: Caller, source: Path, drawn: dict) -> float:
    """The relative error of the package's logits."""
    model = AutoModelForCausalLM.from_pretrained(source, attn_implementation="eager", dtype=torch.float32).eval()
    rng = random.Random(drawn["seed"])
    ids = [rng.randrange(2, model.config.vocab_size) for _ in range(PROMPT + STEPS)]
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().numpy()
    errors, squares = 0.0, 0.0
    for position, logits in package_logits(call, ids, drawn["cache"]).items():
        got, want = logits.astype(np.float64).ravel(), wanted[position]
        got, want = got - got.mean(), want - want.mean()
        errors, squares = errors + ((got - want) ** 2).sum(), squares + (want**2).sum()
    return float(np.sqrt(errors / squares))


def compare_encoder(call: Caller, source: Path, drawn: dict) -> float:
    """The relative error of the mean over the tokens, which is what a BERT without modules embeds as, up to its length."""
    model = AutoModel.from_pretrained(source, attn_implementation="eager", dtype=torch.float32).eval()
    rng = random.Random(drawn["seed"])
    worst = 0.0
    for count in (3, 17, LENGTH):
        ids = [rng.randrange(5, model.config.vocab_size) for _ in range(count)]
        with torch.no_grad():
            want = model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0).double().numpy()
        padded, mask = np.zeros((2, 1, LENGTH), np.int32)
        padded[0, :count], mask[0, :count] = ids, 1
        got = call(None, {"input_ids": padded, "attention_mask": mask})["embedding"].astype(np.float64).ravel()
        got = got * (np.linalg.norm(want) / np.linalg.norm(got))
        worst = max(worst, float(np.linalg.norm(got - want) / np.linalg.norm(want)))
    return worst


def check(family: str, seed: int, folder: Path) -> float:
    """Converts the draw and gives its error; raises with the configuration where it is too large."""
    drawn = draw(family, seed)
    repeat = f"{Path(__file__).name} --family {family} --first {seed} --count 1"
    shown = f"{family}, {json.dumps(drawn, indent=1)}\nrepeat with {repeat}"
    source, package = folder / "model", folder / "x.mlpackage"
    source.mkdir()
    try:
        save(family, drawn, source)
        more = [] if family == "bert" else ["--prompt-chunk", CHUNK, "--kv-cache", drawn["cache"]]
        cases.coremill("convert", "--model", source, "--seq-len", LENGTH, "--output", package, *more)
        call = Caller(package, folder)
        error = (compare_encoder if family == "bert" else compare_decoder)(call, source, drawn)
    except Exception as failure:
        raise AssertionError(f"{failure}\n{shown}") from failure
    assert error < LIMIT, f"relative error {error:.4f}, {LIMIT} allowed\n{shown}"
    return error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, action="append")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=10, help="seeds of each family")
    arguments = parser.parse_args()
    failed = 0
    for family in arguments.family or FAMILIES:
        for seed in range(arguments.first, arguments.first + arguments.count):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    print(f"{family} {seed}: {check(family, seed, Path(folder)):.5f}", flush=True)
                except AssertionError:
                    failed += 1
                    print(f"{family} {seed}: FAILED", flush=True)
                    traceback.print_exc(limit=0)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
