"""Makes the goldens of `source::weights`: tiny bases, PEFT adapters on them, and what PEFT merges them to.

    python make.py            # writes *.json and *.safetensors beside this file

Each case is a base (`BASE/`), an adapter (`CASE/`) and `CASE.merged.safetensors`, the parameters that
`merge_and_unload` changed, in f32, as `transformers` names them. Needs torch, transformers and peft.
"""

import pathlib
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, LlamaModel

HERE = pathlib.Path(__file__).parent


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
    "rslora": ("llama", dict(r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "k_proj"],
                             rank_pattern={"1.self_attn.q_proj": 6}, alpha_pattern={"k_proj": 3})),
    "dora": ("llama", dict(r=2, use_dora=True, target_modules=["v_proj", "up_proj"])),
    "saved": ("tied", dict(r=2, target_modules=["o_proj"], modules_to_save=["lm_head", "input_layernorm"])),
    "embedding": ("tied", dict(r=2, target_modules=["embed_tokens", "gate_proj"])),
    "head": ("tied", dict(r=2, target_modules=["lm_head"])),
    "conv1d": ("gpt2", dict(r=5, lora_alpha=4, fan_in_fan_out=True, use_dora=False,
                            target_modules=["c_attn", "c_proj", "wte"])),
    "conv1d_dora": ("gpt2", dict(r=2, fan_in_fan_out=True, use_dora=True, target_modules=["c_fc"])),
    "bare": ("llama", dict(r=2, target_modules=["q_proj"])),
}


def main():
    for old in HERE.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
    for name, make in BASES.items():
        torch.manual_seed(7)
        make().save_pretrained(HERE / name)
    for case, (base, settings) in CASES.items():
        torch.manual_seed(11)
        dtype = {"dtype": torch.float32}
        # LLM2Vec trains on the model without its head, so that the adapter's names lack the prefix.
        cls = LlamaModel if case == "bare" else (GPT2LMHeadModel if base == "gpt2" else LlamaForCausalLM)
        load = lambda: cls.from_pretrained(HERE / base, **dtype)
        model = get_peft_model(load(), LoraConfig(task_type=None, **settings))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
        model.save_pretrained(HERE / case)
        (HERE / case / "README.md").unlink()
        merged = PeftModel.from_pretrained(load(), HERE / case).merge_and_unload()
        before = load()
        before = {n: p for n, p in before.named_parameters(remove_duplicate=False)}
        after = {
            name: parameter.detach().clone().contiguous()
            for name, parameter in merged.named_parameters(remove_duplicate=False)
            if not torch.equal(parameter, before[name])
        }
        save_file(after, HERE / f"{case}.merged.safetensors")
        print(case, *after)
    for path in HERE.rglob("generation_config.json"):
        path.unlink()
    # The author's folder is nobody's business.
    for path in HERE.rglob("adapter_config.json"):
        path.write_text(path.read_text().replace(str(HERE) + "/", ""))


main()
