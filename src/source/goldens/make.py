"""Makes the goldens of `source::weights`: tiny bases, PEFT adapters on them, and what PEFT computes with them.

    python make.py            # writes *.json and *.safetensors beside this file

Each case is a base (`BASE/`), an adapter (`CASE/`) and `CASE.merged.safetensors`: the parameters, in f32 and as
`transformers` names them, that differ from the base's when the adapter is loaded. They are taken from the loaded model
with every module given weights of its own, so that merging one does not reach another, and the script checks that the
merged model has the logits of the unmerged one. Needs torch, transformers and peft.
"""

import json
import pathlib
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, LlamaModel

HERE = pathlib.Path(__file__).parent
IDS = torch.arange(24)[None]


def llama(tied):
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=24, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=tied, attention_bias=not tied,
        )
    )


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=24, n_embd=16, n_layer=1, n_head=2, n_positions=32))


BASES = {"llama": lambda: llama(False), "tied": lambda: llama(True), "gpt2": gpt2}
CASES = {
    "lora": ("llama", dict(r=3, lora_alpha=7, target_modules=["q_proj", "down_proj"], bias="lora_only")),
    "biases": ("llama", dict(r=2, target_modules=["q_proj"], bias="all")),
    "rslora": ("llama", dict(r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "k_proj"],
                             rank_pattern={"1.self_attn.q_proj": 6}, alpha_pattern={"k_proj": 3})),
    "dora": ("llama", dict(r=2, use_dora=True, target_modules=["v_proj", "up_proj"])),
    "dora_embedding": ("tied", dict(r=2, use_dora=True, target_modules=["embed_tokens", "lm_head"])),
    "saved": ("tied", dict(r=2, target_modules=["o_proj"], modules_to_save=["lm_head", "input_layernorm"])),
    "saved_tied": ("tied", dict(r=2, target_modules=["o_proj"], modules_to_save=["embed_tokens"],
                                ensure_weight_tying=True)),
    "saved_embedding": ("tied", dict(r=2, target_modules=["o_proj"], modules_to_save=["embed_tokens"])),
    "embedding": ("tied", dict(r=2, target_modules=["embed_tokens", "gate_proj"])),
    "embedding_tied": ("tied", dict(r=2, target_modules=["embed_tokens"], ensure_weight_tying=True)),
    "head": ("tied", dict(r=2, target_modules=["lm_head"])),
    "conv1d": ("gpt2", dict(r=5, lora_alpha=4, fan_in_fan_out=True, use_dora=False,
                            target_modules=["c_attn", "c_proj", "wte"])),
    "conv1d_dora": ("gpt2", dict(r=2, fan_in_fan_out=True, use_dora=True, target_modules=["c_fc"])),
    "bare": ("llama", dict(r=2, target_modules=["q_proj"])),
    "tokens": ("tied", dict(r=2, target_modules=["q_proj"], trainable_token_indices=[3, 9, 2])),
    "tokens_untied": ("llama", dict(r=2, target_modules=["q_proj"],
                                    trainable_token_indices={"embed_tokens": [3, 9], "lm_head": [5]})),
    "tokens_apart": ("tied", dict(r=2, target_modules=["q_proj"],
                                  trainable_token_indices={"embed_tokens": [3, 9], "lm_head": [5]})),
    "tokens_head": ("tied", dict(r=2, target_modules=["q_proj"], trainable_token_indices={"lm_head": [5, 1]})),
    "lora_bias": ("tied", dict(r=2, lora_alpha=5, target_modules=["q_proj", "lm_head"], lora_bias=True)),
    "lora_bias_added": ("llama", dict(r=2, lora_alpha=5, target_modules=["q_proj"], lora_bias=True)),
    "replicated": ("llama", dict(r=2, target_modules=["q_proj"], layer_replication=[[0, 2], [1, 2], [0, 1]])),
    "resized": ("llama", dict(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])),
    "resized_tied": ("tied", dict(r=2, target_modules=["q_proj", "lm_head"])),
    "parameters": ("tied", dict(r=2, target_modules=[], target_parameters=["v_proj.weight", "embed_tokens.weight"])),
    "parameters_conv1d": ("gpt2", dict(r=2, target_modules=[], target_parameters=["c_fc.weight"])),
    "pissa": ("tied", dict(r=2, lora_alpha=6, target_modules=["q_proj", "lm_head"], init_lora_weights="pissa")),
    "pissa_conv1d": ("gpt2", dict(r=2, target_modules=["c_fc"], init_lora_weights="pissa", fan_in_fan_out=True)),
    "pissa_dora": ("llama", dict(r=2, target_modules=["v_proj"], init_lora_weights="pissa", use_dora=True)),
    "olora": ("tied", dict(r=2, lora_alpha=6, target_modules=["down_proj", "lm_head"], init_lora_weights="olora")),
    "mica": ("llama", dict(r=2, target_modules=["q_proj"], init_lora_weights="mica")),
}
# Vocabularies that are resized before training.
VOCABULARIES = {"resized": 27, "resized_tied": 27}


def merged(model):
    """The model that PEFT has loaded, merged module by module, each with weights of its own."""
    seen = set()
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in seen and "trainable_tokens" not in name:
                setattr(module, name, torch.nn.Parameter(parameter.detach().clone()))
            seen.add(id(getattr(module, name)))
    for module in model.modules():
        if any(getattr(module, "lora_bias", {}).values()) and module.get_base_layer().bias is None:
            outputs = module.get_base_layer().out_features
            module.get_base_layer().bias = torch.nn.Parameter(torch.zeros(outputs))
    return model.merge_and_unload()


def initial_product(model, base, case):
    """What the initialisation of each pair took out of its weight, as two factors in the layout of the weight."""
    for module_name, module in model.named_modules():
        if not module_name.endswith(("_proj", "lm_head", "c_fc")) or not hasattr(module, "lora_A"):
            continue
        name = module_name.removeprefix("base_model.model.")
        before = base.get_submodule(name).weight.detach()
        change = (before - module.get_base_layer().weight.detach()) / module.scaling["default"]
        left, values, right = torch.linalg.svd(change, full_matrices=False)
        rank = module.r["default"]
        assert values[rank] < 1e-5 * values[0], (case, name, values)
        factors = {"left": (left[:, :rank] * values[:rank]).contiguous(), "right": right[:rank].contiguous()}
        save_file(factors, HERE / case / f"{name}.initial_product")


def main():
    for name in (*BASES, *CASES):
        shutil.rmtree(HERE / name, ignore_errors=True)
    for name, make in BASES.items():
        torch.manual_seed(7)
        make().save_pretrained(HERE / name)
    for case, (base, settings) in CASES.items():
        torch.manual_seed(11)
        # LLM2Vec trains on the model without its head, so that the adapter's names lack the prefix.
        cls = LlamaModel if case == "bare" else (GPT2LMHeadModel if base == "gpt2" else LlamaForCausalLM)

        def load():
            model = cls.from_pretrained(HERE / base, dtype=torch.float32)
            if case in VOCABULARIES:
                model.resize_token_embeddings(VOCABULARIES[case])
            return model

        model = get_peft_model(load(), LoraConfig(task_type=None, **settings))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad or (case == "biases" and name.endswith(".bias")):
                    parameter.add_(torch.randn_like(parameter) * 0.2)
        model.save_pretrained(HERE / case, save_embedding_layers=case == "resized_tied" or "auto")
        (HERE / case / "README.md").unlink()
        loaded = PeftModel.from_pretrained(load(), HERE / case).eval()
        if settings.get("init_lora_weights") in ("pissa", "olora"):
            initial_product(loaded, load(), case)
        with torch.no_grad():
            want = loaded(IDS)[0]
            alone = merged(loaded)
            error = float((alone(IDS)[0] - want).abs().max() / want.abs().max())
        assert error < 1e-5, (case, error)
        before = dict(load().named_parameters(remove_duplicate=False))
        after = {
            name: parameter.detach().clone().contiguous()
            for name, parameter in alone.named_parameters(remove_duplicate=False)
            if case == "replicated" or name not in before or not torch.equal(parameter, before[name])
        }
        save_file(after, HERE / f"{case}.merged.safetensors")
        print(case, len(load_file(HERE / case / "adapter_model.safetensors")), f"{error:.1g}", *after)
    for path in HERE.rglob("generation_config.json"):
        path.unlink()
    # The author's folder is nobody's business.
    for path in HERE.rglob("adapter_config.json"):
        text = path.read_text().replace(str(HERE) + "/", "")
        path.write_text(json.dumps(json.loads(text), indent=2) + "\n")


main()
