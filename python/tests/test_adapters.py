"""Adapters as peft trains them: the package of the real binary has the logits that peft computes without merging."""

import dataclasses
import json
import warnings
from pathlib import Path

import pytest
import torch
from cases import coremill, convert, decoder, edit
from coremill.adapters import merge
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.peft_types import PeftType
from written import ask
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

CHUNK = 16
IDS = [(7 * i + 3) % 256 for i in range(CHUNK)]


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """Bases by name: the folder, made when it is first asked for."""
    made = {}
    settings = {
        "llama": {"kind": "llama"},
        "tied": {"kind": "qwen2", "tie_word_embeddings": True},
        "gpt2": {"kind": "gpt2"},
    }

    def base(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            decoder(made[name], seed=41, **settings[name])
        return made[name]

    return base


def trained(base: Path, out: Path, vocab: int | None = None, seed: int = 5, after=(), **settings) -> Path:
    """Saves an adapter with random values in place of training; `after` are adapters that its base has merged."""
    model = load(base, vocab)
    for path in after:
        model = PeftModel.from_pretrained(model, path).merge_and_unload()
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
            elif "lora_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    adapted.save_pretrained(out, save_embedding_layers=vocab is not None or "auto")
    return out


def load(base: Path, vocab: int | None = None):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()
    if vocab is not None:
        torch.manual_seed(1)
        model.resize_token_embeddings(vocab)
    return model


def logits(model) -> torch.Tensor:
    """Logits [T, V] of the test's tokens."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0]


def package_logits(package: Path, scratch: Path) -> torch.Tensor:
    """Logits [V] of the last of the test's tokens, from the runtime."""
    given, found = scratch / "in.safetensors", scratch / "out.safetensors"
    one = torch.tensor([0], dtype=torch.int32)
    ids = torch.tensor([IDS], dtype=torch.int32)
    save_file({"input_ids": ids, "position": one, "length": one + CHUNK}, given)
    coremill("predict", package, "--function", "init", "-i", given, "-o", found)
    return load_file(found)["logits"][0].float()


# Rich adapters, so that few conversions show many settings.
CASES = {
    "patterns, rsLoRA, biases of pairs, tokens of two modules": (
        "llama",
        {
            "target_modules": r".*\.(q_proj|v_proj|down_proj)",
            "r": 4,
            "lora_alpha": 8,
            "rank_pattern": {r"layers\.0\..*q_proj": 6},
            "alpha_pattern": {"v_proj": 3},
            "use_rslora": True,
            "lora_bias": True,
            "trainable_token_indices": {"embed_tokens": [3, 10, 17], "lm_head": [5, 6]},
        },
    ),
    "DoRA on a tied embedding, PiSSA": (
        "tied",
        {"target_modules": ["q_proj", "embed_tokens"], "r": 4, "use_dora": True, "init_lora_weights": "pissa"},
    ),
    "PiSSA on a tied head": ("tied", {"target_modules": ["o_proj", "lm_head"], "r": 4, "init_lora_weights": "pissa"}),
    "OLoRA, a saved norm and head of a tied model": (
        "tied",
        {"target_modules": ["up_proj"], "r": 4, "init_lora_weights": "olora", "modules_to_save": ["lm_head", "norm"]},
    ),
    "tokens of a tied model": ("tied", {"target_modules": ["k_proj"], "trainable_token_indices": [3, 10, 17]}),
    "DoRA on Conv1D, a tied embedding": (
        "gpt2",
        {"target_modules": ["c_attn", "wte"], "r": 4, "use_dora": True, "fan_in_fan_out": True},
    ),
    # Not Qwen2: transformers finds no `layer_types` for the layers that peft adds.
    "replicated layers": ("llama", {"target_modules": ["q_proj"], "layer_replication": [[0, 2], [1, 2], [0, 1]]}),
    "a larger vocabulary of a tied model": ("tied", {"target_modules": ["q_proj", "lm_head"], "vocab": 309}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_package_is_what_peft_computes(bases, tmp_path, name):
    base, settings = CASES[name]
    base = bases(base)
    adapter = trained(base, tmp_path / "adapter", **settings)
    model = load(base, settings.get("vocab"))
    before = logits(model)[-1]
    want = logits(PeftModel.from_pretrained(model, adapter).eval())[-1]
    convert(base, tmp_path / "m.mlpackage", "--lora-checkpoint", adapter, "--prompt-chunk", CHUNK)
    got = package_logits(tmp_path / "m.mlpackage", tmp_path)
    assert got.shape == want.shape
    scale = float(want.abs().max())
    assert float((got - want).abs().max()) < 0.01 * scale
    # The test would notice if the adapter were left out.
    assert float((before - want).abs().max()) > 0.05 * scale


def test_adapters_are_applied_one_after_the_other(bases, tmp_path):
    """A larger vocabulary, then PiSSA on what it has made, and the head alone."""
    base = bases("llama")
    first = trained(base, tmp_path / "a", vocab=309, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    second = trained(
        base, tmp_path / "b", vocab=309, seed=6, after=[first], target_modules=["q_proj", "lm_head"], init_lora_weights="pissa"
    )
    for file in (second / "adapter_model.safetensors",):
        # The second adapter does not bring the vocabulary again.
        kept = {key: value for key, value in load_file(file).items() if "lora_" in key}
        save_file(kept, file)
    once = PeftModel.from_pretrained(load(base, 309), first).merge_and_unload()
    want = logits(PeftModel.from_pretrained(once, second).eval())[-1]
    out = tmp_path / "m.mlpackage"
    convert(base, out, "--lora-checkpoint", first, "--lora-checkpoint", second, "--prompt-chunk", CHUNK)
    assert float((package_logits(out, tmp_path) - want).abs().max()) < 0.01 * float(want.abs().max())


@pytest.mark.parametrize("name", CASES)
def test_merging_for_the_plain_conversion_is_what_peft_computes(bases, tmp_path, name):
    base, settings = CASES[name]
    base = bases(base)
    adapter = trained(base, tmp_path / "adapter", **settings)
    want = logits(PeftModel.from_pretrained(load(base, settings.get("vocab")), adapter).eval())
    got = logits(merge(load(base), [str(adapter)]))
    assert float((got - want).abs().max()) < 1e-4 * float(want.abs().max())


def test_adapters_saved_by_torch_are_merged_like_safetensors(bases, tmp_path):
    base = bases("llama")
    adapter = trained(base, tmp_path / "adapter", target_modules=["q_proj", "down_proj"], r=4)
    want = logits(PeftModel.from_pretrained(load(base), adapter).eval())
    file = adapter / "adapter_model.safetensors"
    torch.save(load_file(file), adapter / "adapter_model.bin")
    saved = file.read_bytes()
    file.unlink()
    got = logits(merge(load(base), [str(adapter)]))
    assert float((got - want).abs().max()) < 1e-4 * float(want.abs().max())
    out = tmp_path / "m.mlpackage"
    convert(base, out, "--llm2vec-checkpoint", adapter)
    vector = embedded(out, "the king of judah")
    file.write_bytes(saved)
    (adapter / "adapter_model.bin").unlink()
    convert(base, tmp_path / "s.mlpackage", "--llm2vec-checkpoint", adapter)
    assert vector == embedded(tmp_path / "s.mlpackage", "the king of judah")


def embedded(package: Path, text: str) -> list[float]:
    return json.loads(coremill("embed", package, text, "--format", "jsonl").out.splitlines()[0])["embedding"]


@pytest.mark.parametrize("init", ["pissa", "olora"])
@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (16, 16)])
@pytest.mark.parametrize("in_out", [False, True])
def test_what_an_initialisation_takes_out(tmp_path, init, shape, in_out):
    torch.manual_seed(3)
    weight = torch.randn(shape)
    given, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save_file({"weight": weight}, given)
    fields = {"weight": str(given), "out": str(out), "init": init, "rank": 3, "alpha": 6.0, "in_out": in_out}
    ask("initial_product", use_rslora=False, **fields)
    factors = load_file(out)
    rest = weight - 2.0 * factors["left"] @ factors["right"]
    if init == "pissa":
        # What is left has lost the three largest singular values.
        values = torch.linalg.svdvals(weight)
        torch.testing.assert_close(torch.linalg.svdvals(rest)[:10], values[3:13])
    else:
        q, r = torch.linalg.qr(weight)
        torch.testing.assert_close(rest, weight - 2.0 * q[:, :3] @ r[:3])


def dry_run(base: Path, adapter: Path, flag="--lora-checkpoint") -> str:
    """What a dry run says to an adapter that is refused."""
    return coremill("convert", "--model", base, flag, adapter, "--seq-len", 64, "--dry-run", "--output",
                    adapter / "x.mlpackage", code=2).err  # fmt: skip


REFUSED = {
    "pissa_niter": ({"init_lora_weights": "pissa_niter_4"}, "at random"),
    "lora_ga": ({"init_lora_weights": "lora_ga"}, "path_initial_model_for_weight_conversion"),
    "alora": ({"alora_invocation_tokens": [3, 4]}, "no merged weights compute it"),
    "unknown key": ({"use_shiny_lora": True}, "`use_shiny_lora`"),
    "classifier": ({"task_type": "SEQ_CLS"}, "`task_type`"),
    "LoHa": ({"peft_type": "LOHA"}, "merge_and_unload"),
    "prompt tuning": ({"peft_type": "PROMPT_TUNING"}, "no merged weights compute it"),
    "a module left out": ({"target_modules": ["k_proj"]}, "`target_modules`"),
    "a module without a pair": ({"target_modules": ["q_proj", "k_proj"]}, "which has no pair"),
}


def test_what_is_refused_is_named_with_a_remedy(bases, tmp_path):
    base = bases("llama")
    adapter = trained(base, tmp_path / "adapter", target_modules=["q_proj"])
    plain = (adapter / "adapter_config.json").read_text()
    for name, (changes, want) in REFUSED.items():
        edit(adapter, "adapter_config.json", **changes)
        error = dry_run(base, adapter)
        assert want in error and "hint:" in error, (name, error)
        (adapter / "adapter_config.json").write_text(plain)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapters.safetensors")
    assert "mlx_lm.fuse" in dry_run(base, adapter)


BROKEN = {
    "a Git LFS pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 123456789\n", "git lfs pull"),
    "an HTML page": ("<!doctype html><html>", "download the file"),
    "cut off": ('{"peft_type": "LO', "fetch the file again"),
}


def test_a_broken_configuration_is_named_with_a_remedy(bases, tmp_path):
    base = bases("llama")
    adapter = trained(base, tmp_path / "adapter", target_modules=["q_proj"])
    for file in ("llm2vec_config.json", "adapter_config.json"):
        for what, (text, remedy) in BROKEN.items():
            (adapter / file).write_text(text)
            error = dry_run(base, adapter, "--llm2vec-checkpoint")
            assert file in error and what in error and remedy in error, error
        (adapter / file).unlink()


def test_every_setting_of_peft_is_documented():
    """Settings that a newer peft knows have to be sorted into the table, in the page and in the program."""
    page = Path(__file__).parents[2] / "docs" / "checkpoints.md"
    section = page.read_text().split("### Keys of `adapter_config.json`")[1].split("\n### ")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    documented = {key.strip(" `") for row in rows for key in row.split(",")}
    known = {field.name for field in dataclasses.fields(LoraConfig)}
    assert known - documented == set()
    saved = json.loads(json.dumps(LoraConfig(r=4).to_dict(), default=str))
    assert set(saved) - documented == set()
    # Types that cannot be merged are the only ones without that remedy.
    assert {"LORA", "LOHA", "PROMPT_TUNING"} <= {kind.value for kind in PeftType}


warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")
