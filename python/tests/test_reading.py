"""How checkpoints are read: as transformers reads them, or refused by name."""

import json
import os
import re
import shutil
from pathlib import Path

import cases
import pytest
import torch
from coremill import entry
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neo", "bert")

# What `to_dict()` of transformers 4.57 has beyond version 5; the keys of every family and those of some.
OLD_KEYS = """add_cross_attention bad_words_ids begin_suppress_tokens cross_attention_hidden_size decoder_start_token_id
diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size exponential_decay_length_penalty finetuning_task
forced_bos_token_id forced_eos_token_id is_decoder length_penalty max_length min_length no_repeat_ngram_size num_beam_groups
num_beams num_return_sequences output_scores prefix pruned_heads remove_invalid_values repetition_penalty
return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss tie_encoder_decoder
tokenizer_class top_k top_p torchscript typical_p use_bfloat16 torch_dtype""".split()
OLD_KEYS_OF = {kind: ["rope_scaling", "rope_theta"] for kind in FAMILIES[:4]} | {"bert": ["position_embedding_type"]}


def known_keys(family: str) -> set[str]:
    """The keys of the table of docs/checkpoints.md, which a test keeps equal to the program's own."""
    page = Path(__file__).parents[2].joinpath("docs/checkpoints.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|", page, re.MULTILINE)
    return {key for key, families in rows if families == "all" or family in families.split(", ")}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_that_transformers_writes_is_known(family, tmp_path):
    settings = AutoConfig.for_model(family).to_dict()
    written = {key for key in settings if not key.startswith("_") and not key.endswith("_version")}
    assert written | {*OLD_KEYS, *OLD_KEYS_OF.get(family, ())} <= known_keys(family)
    # The defaults themselves are accepted.
    tmp_path.joinpath("config.json").write_text(json.dumps(settings))
    save_file({"embed_tokens.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    record = cases.coremill("inspect", tmp_path, "--format", "json").json()
    assert "refusals" not in record or not any("config.json" in what for what in record["refusals"])


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    cases.decoder(folder, "llama", seed=3)
    return folder


def copied(source, folder) -> Path:
    return Path(shutil.copytree(source, folder))


def dry_run(model, *more, seq_len=64, code=2) -> cases.Outcome:
    output = Path(model).parent / "out.mlpackage"
    return cases.coremill(
        "convert", "--model", model, "--seq-len", seq_len, "--output", output, "--dry-run", *more, code=code
    )


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 123456789\n"


def pointer(name):
    return lambda folder: folder.joinpath(name).write_text(POINTER)


def rename_tensors(change):
    def apply(folder):
        file = folder / "model.safetensors"
        save_file({change(name): value for name, value in load_file(file).items()}, file, {"format": "pt"})

    return apply


def settings(**changes):
    return lambda folder: cases.edit(folder, "config.json", **changes)


def half(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def eight_bit(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file({k: v.to(torch.float8_e4m3fn) if "proj" in k else v for k, v in tensors.items()}, file, {"format": "pt"})


REFUSED = {
    "lfs pointer of weights": (pointer("model.safetensors"), "is a Git LFS pointer to 123456789 bytes", "git lfs pull"),
    "lfs pointer of the configuration": (pointer("config.json"), "is a Git LFS pointer", "git lfs pull"),
    "html": (lambda d: d.joinpath("config.json").write_text("<!doctype html>"), "is an HTML page", "download the file"),
    "cut json": (lambda d: d.joinpath("config.json").write_text('{"model_type": "lla'), "is cut off", "fetch the file"),
    "cut weights": (half, "is truncated", "fetch the file again"),
    "empty weights": (lambda d: d.joinpath("model.safetensors").write_bytes(b""), "is empty", "fetch the file again"),
    "stale quantization": (
        settings(quantization_config={"quant_method": "bitsandbytes"}),
        "are quantized already, by `bitsandbytes`",
        "remove `quantization_config`",
    ),
    "mlx": (settings(quantization={"group_size": 64, "bits": 4}), "by `MLX`", "original checkpoint"),
    "fp8": (eight_bit, "F8_E4M3: the weights are quantized already", "original checkpoint"),
    "no model type": (settings(model_type=...), "lacks `model_type`", ""),
    "unknown family": (settings(model_type="gemma3_text"), "architecture `gemma3_text`", "supported are llama"),
    "data parallel": (rename_tensors("module.{}".format), "have the prefix `module.`", "rename the tensors"),
    "compiled": (rename_tensors("_orig_mod.{}".format), "have the prefix `_orig_mod.`", "rename the tensors"),
    "bidirectional": (settings(is_causal=False), "`is_causal` in `", "supported is true"),
    "classifier": (
        settings(architectures=["LlamaForSequenceClassification"]),
        "names `LlamaForSequenceClassification`",
        "--allow-config-key architectures",
    ),
    "custom code": (settings(auto_map={"AutoModel": "m.X"}), "custom code: `AutoModel` is `m.X`", "allow-config-key auto_map"),
    "unknown key": (settings(logit_scale=2.0), "has `logit_scale`: 2.0, which is not understood", "--allow-config-key"),
    "two rotary settings": (
        settings(rope_scaling={"type": "linear", "factor": 2.0}, rope_parameters={"rope_type": "default"}),
        "`rope_scaling` and `rope_parameters`",
        "remove the one",
    ),
    "no weights": (
        lambda d: d.joinpath("model.safetensors").rename(d / "model.gguf"),
        "holds no weights, but `model.gguf`",
        "in safetensors",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_dry_run_names_what_is_wrong_and_the_remedy(what, llama, tmp_path):
    change, message, remedy = REFUSED[what]
    model = copied(llama, tmp_path / "m")
    change(model)
    outcome = dry_run(model)
    assert message in outcome.err and remedy in outcome.err, outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_paths_are_not_taken_for_repositories(llama, tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + b"0" * 100)
    lines = {
        tmp_path / "missing": "there is no folder",
        tmp_path / "model.gguf": "is a GGUF file",
        llama / "model.safetensors": f"hint: pass the folder `{llama}`",
        "./here/not": "there is no folder",
        f"{llama}x": f"did you mean `{llama}`",
    }
    for model, message in lines.items():
        assert message in dry_run(model).err, model


def test_the_hint_about_lengths_works(llama):
    for seq_len, chunk in ((100, 64), (257, 64), (250, 100), (63, 62)):
        outcome = dry_run(llama, "--prompt-chunk", chunk, seq_len=seq_len)
        for flag, value in re.findall(r"`--(seq-len|prompt-chunk) (\d+)`", outcome.err):
            lengths = {"seq-len": seq_len, "prompt-chunk": chunk, flag: int(value)}
            plan(llama, lengths["seq-len"], prompt_chunk=min(lengths["prompt-chunk"], lengths["seq-len"]))


def plan(model, seq_len=64, **more) -> dict:
    answer = json.loads(entry.call(json.dumps({"op": "plan", "model": str(model), "seq_len": seq_len, **more})))
    assert "ok" in answer, answer
    return answer["ok"]


def refused(model, **more) -> dict:
    return json.loads(entry.call(json.dumps({"op": "plan", "model": str(model), "seq_len": 64, **more})))["error"]


def test_tensors_that_nothing_uses_are_refused_unless_known_or_allowed(llama, tmp_path):
    model = copied(llama, tmp_path / "m")
    file = model / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(tensors, file, {"format": "pt"})
    assert plan(model)["unused"] == []
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.ones(64)
    save_file(tensors, file, {"format": "pt"})
    error = refused(model)
    assert "`model.layers.0.self_attn.q_proj.bias`" in error["message"] and "--allow-unused-tensor" in error["hint"]
    assert plan(model, allow_unused=[r"q_proj\.bias$"])["unused"] == ["model.layers.0.self_attn.q_proj.bias"]
    for name in ("model.norm.weight", "model.layers.1.mlp.up_proj.weight"):
        del tensors[name]
    save_file(tensors, file, {"format": "pt"})
    message = refused(model, allow_unused=["bias$"])["message"]
    assert "2 tensors are missing" in message and "`model.norm.weight`" in message and "mlp.up_proj" in message


def test_odd_spellings_reach_transformers_as_what_they_mean(llama, tmp_path):
    model = copied(llama, tmp_path / "m")
    cases.edit(model, "config.json", max_position_embeddings=256.0, bos_token_id=[0], pad_token_id=-1, head_dim=None)
    cases.edit(model, "generation_config.json", eos_token_id=-1)
    text = (model / "config.json").read_text()
    (model / "config.json").write_text(text, encoding="utf-8-sig")
    facts = plan(model)["facts"]
    assert (facts["max_position_embeddings"], facts["head_dim"]) == (256, 16)
    assert facts["special_tokens"] == {"bos": [0], "eos": [], "pad": []}
    record = cases.coremill("inspect", model, "--format", "json").json()
    assert record["generation"] == {"bos": 0, "eos": [], "pad": None}
    assert "refusals" not in record


def tokens_of(model, prompt="the king of judah", count=12):
    """What transformers itself writes."""
    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    return cases.greedy(reference, AutoTokenizer.from_pretrained(model)(prompt)["input_ids"], count)


def written(model, folder, *more, count=12):
    package = folder / "m.mlpackage"
    cases.convert(model, package, *more)
    manifest = json.loads((folder / "m.manifest.json").read_text())
    return cases.generate(package, "the king of judah", count=count)["tokens"], manifest["checkpoint"]


def test_pytorch_shards_with_the_rotary_settings_of_version_5(tmp_path):
    model = tmp_path / "m"
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"original_max_position_embeddings": 32, "rope_theta": 10000.0}
    made = cases.decoder(model, "llama", seed=2, rope_parameters=rope)
    expected = tokens_of(model)
    state = {name: value.clone() for name, value in made.state_dict().items()}
    names = sorted(state)
    state["model.layers.0.mlp.up_proj.weight"] = state["model.layers.0.mlp.up_proj.weight"].t().contiguous().t()
    shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for index, (shard, held) in enumerate(shards.items()):
        torch.save({name: state[name] for name in held}, model / shard, _use_new_zipfile_serialization=index == 0)
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    (model / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    os.remove(model / "model.safetensors")
    tokens, record = written(model, tmp_path)
    assert tokens == expected
    assert record["config"]["rope"]["type"] == "llama3" and record["tensors"]["files"] == sorted(shards)


def test_a_stored_head_and_the_newer_file_win(tmp_path):
    model = tmp_path / "m"
    old = cases.decoder(model, "qwen2", seed=9, tie_word_embeddings=True, save=False)
    old.save_pretrained(model, max_shard_size="60KB")
    new = cases.decoder(model, "qwen2", seed=10, tie_word_embeddings=True, save=False)
    state = {name: value.clone() for name, value in new.state_dict().items()}
    torch.manual_seed(3)  # With this head no token is nearly tied.
    state["lm_head.weight"] = torch.randn(300, 64) * 0.3
    save_file(state, model / "model.safetensors", {"format": "pt"})
    tokens, record = written(model, tmp_path)
    assert tokens == tokens_of(model)
    assert not record["tensors"]["tied_head"] and record["tensors"]["files"] == ["model.safetensors"]
    assert len(record["warnings"]) == 2


def test_dynamic_rotary_positions_convert_up_to_the_original_length(tmp_path):
    model = tmp_path / "m"
    cases.decoder(model, "llama", seed=5)
    cases.edit(model, "config.json", rope_parameters=..., rope_scaling={"type": "dynamic", "factor": 2.0}, note="mine")
    assert "rotary embeddings depend on the length of the prompt" in dry_run(
        model, "--allow-config-key", "note", seq_len=512
    ).err
    tokens, record = written(model, tmp_path, "--allow-config-key", "note")
    assert tokens == tokens_of(model)
    assert record["config"]["allowed"] == ["note"] and "`note`" in record["warnings"][0]


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_dry_run_reads_every_weight(llama, tmp_path, value):
    model = copied(llama, tmp_path / "m")
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    shown = str(value).replace("nan", "NaN")
    message = f"tensor `model.layers.1.mlp.up_proj.weight` is not finite: element [3, 5] is {shown}"
    assert message in dry_run(model).err
