"""Tiny random checkpoints of every family, norms and biases randomised so that nothing equals anything else."""

import json

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    GPT2Config,
    GPTNeoConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

VOCAB = 96
POSITIONS = 64

_ROTARY = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
}

CONFIGS = {
    "llama": LlamaConfig(**_ROTARY, tie_word_embeddings=False),
    "llama_tied_scaled": LlamaConfig(
        **_ROTARY,
        tie_word_embeddings=True,
        attention_bias=True,
        mlp_bias=True,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "mistral": MistralConfig(**_ROTARY, head_dim=16, sliding_window=11),
    "qwen2": Qwen2Config(**_ROTARY, use_sliding_window=True, sliding_window=9, max_window_layers=1),
    "qwen3": Qwen3Config(**_ROTARY, head_dim=16, tie_word_embeddings=True),
    "gpt2": GPT2Config(
        vocab_size=VOCAB, n_positions=POSITIONS, n_embd=48, n_layer=2, n_head=4, scale_attn_by_inverse_layer_idx=True
    ),
    "gpt_neo": GPTNeoConfig(
        vocab_size=VOCAB,
        max_position_embeddings=POSITIONS,
        hidden_size=48,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=7,
    ),
    "bert": BertConfig(
        vocab_size=VOCAB,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
    ),
}

DECODERS = [name for name in CONFIGS if name != "bert"]


def checkpoint(folder, family: str, seed: int = 7) -> str:
    """Saves a random checkpoint of a family under `folder` and returns its path."""
    path = folder / family
    if not path.exists():
        torch.manual_seed(seed)
        maker = AutoModel if family == "bert" else AutoModelForCausalLM
        model = maker.from_config(CONFIGS[family])
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.add_(torch.randn_like(parameter) * (0.3 if parameter.dim() == 1 else 0.08))
        model.save_pretrained(path)
    return str(path)


# Module lists of sentence-transformers after the Transformer: kind and configuration.
CHAINS = [
    [("Pooling", {"word_embedding_dimension": 48, "pooling_mode_mean_tokens": True}), ("Normalize", {})],
    [("Pooling", {"word_embedding_dimension": 48, "pooling_mode_cls_token": True})],
    [("Pooling", {"word_embedding_dimension": 48, "pooling_mode_lasttoken": True}), ("Normalize", {})],
    [
        (
            "Pooling",
            {
                "word_embedding_dimension": 48,
                "pooling_mode_max_tokens": True,
                "pooling_mode_mean_sqrt_len_tokens": True,
            },
        ),
        (
            "Dense",
            {
                "in_features": 96,
                "out_features": 40,
                "bias": True,
                "activation_function": "torch.nn.modules.activation.Tanh",
            },
        ),
    ],
]


def sentence_checkpoint(folder, modules: list[tuple[str, dict]]) -> str:
    """A BERT checkpoint with a sentence-transformers module list: (type, config) after the Transformer."""
    from safetensors.torch import save_file

    path = folder / f"sentence-{CHAINS.index(modules)}"
    checkpoint(folder, "bert")
    if not path.exists():
        path.mkdir()
        for file in (folder / "bert").iterdir():
            (path / file.name).write_bytes(file.read_bytes())
        listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
        for index, (kind, config) in enumerate(modules, 1):
            part = path / f"{index}_{kind}"
            part.mkdir()
            (part / "config.json").write_text(json.dumps(config))
            if kind == "Dense":
                shapes = {"linear.weight": (config["out_features"], config["in_features"])}
                if config["bias"]:
                    shapes["linear.bias"] = (config["out_features"],)
                save_file({key: torch.randn(shape) * 0.2 for key, shape in shapes.items()}, part / "model.safetensors")
            listed.append(
                {"idx": index, "name": str(index), "path": part.name, "type": f"sentence_transformers.models.{kind}"}
            )
        (path / "modules.json").write_text(json.dumps(listed))
    return str(path)


def adapter(folder, family: str, seed: int, inner: bool = False, **options) -> str:
    """A random PEFT LoRA adapter for a family's checkpoint; `inner` trains it on the model without its head."""
    from peft import LoraConfig, get_peft_model

    path = folder / f"{family}-adapter-{seed}-{int(inner)}-{'-'.join(options)}"
    if not path.exists():
        torch.manual_seed(seed)
        maker = AutoModel if inner else AutoModelForCausalLM
        model = maker.from_pretrained(checkpoint(folder, family))
        targets = ["c_attn", "c_proj"] if family == "gpt2" else ["q_proj", "v_proj"]
        options = {"r": 12, "lora_alpha": 20, "target_modules": targets, "fan_in_fan_out": family == "gpt2", **options}
        adapted = get_peft_model(model, LoraConfig(**options))
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_" in name:
                    parameter.copy_(torch.randn_like(parameter) * 0.1)
        adapted.save_pretrained(path)
    return str(path)
