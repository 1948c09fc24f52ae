"""Write a tiny random checkpoint of one architecture, for tests.

    make_tiny.py ARCH OUT [--untied] [--shards] [--layers N]

ARCH is one of llama, mistral, qwen2, qwen3, gpt2, gpt_neo, bert. Each has two
layers, or N, a hidden size of 64 and dictlm's tokenizer; weights are drawn wide
enough that outputs are far from flat, and norms and biases, which a fresh model leaves
at 1 and 0, are drawn too, so that none can be forgotten unnoticed. `bert` is a
sentence-transformers folder: Transformer, Pooling, Dense, Normalize. Heads are
tied to the embedding unless `--untied`. The same ARCH gives the same files.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

HERE = Path(__file__).parent
TOKENIZER = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
VOCABULARY = 2048
POSITIONS = 256
WIDTH = 64
POOLED = 48  # Output of the Dense module.

LLAMA = dict(
    vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, hidden_size=WIDTH, intermediate_size=160,
    num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, bos_token_id=0, eos_token_id=0,
)
GPT = dict(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0)

# What is particular to an architecture: a sliding window shorter than the test
# prompts, biases, a head dimension that is not hidden / heads, local layers.
SHAPES = {
    "llama": dict(**LLAMA, rope_theta=10000.0, attention_bias=True, mlp_bias=True),
    "mistral": dict(**LLAMA, sliding_window=32),
    "qwen2": dict(**LLAMA, use_sliding_window=False),
    "qwen3": dict(**LLAMA, head_dim=32),
    "gpt2": dict(**GPT, n_positions=POSITIONS, n_embd=WIDTH, n_layer=2, n_head=4),
    "gpt_neo": dict(
        **GPT, max_position_embeddings=POSITIONS, hidden_size=WIDTH, num_layers=2, num_heads=4,
        attention_types=[[["global", "local"], 1]], window_size=32,
    ),
    "bert": dict(
        vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, hidden_size=WIDTH, intermediate_size=160,
        num_hidden_layers=2, num_attention_heads=4, pad_token_id=0,
    ),
}


def randomise(model, seed):
    """Draw every parameter anew; by name order, so that the draw depends on nothing else."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if any(part in name.lower() for part in ("norm", "ln_")) and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.1 * noise)
            elif any(part in name for part in ("embed", "wte", "wpe", "lm_head")):
                parameter.copy_(0.4 * noise)  # Tells the first token from the second by far.
            else:
                parameter.copy_(0.15 * noise)


def sentence_transformer(out):
    """The module list around a BERT: mean pooling, a Dense with tanh, L2 norm."""
    modules = ["Transformer", "Pooling", "Dense", "Normalize"]
    paths = ["", "1_Pooling", "2_Dense", "3_Normalize"]
    write(out / "modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{module}"}
        for i, (module, path) in enumerate(zip(modules, paths))
    ])
    write(out / "sentence_bert_config.json", {"max_seq_length": 128, "do_lower_case": False})
    flags = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
    pooling = {f"pooling_mode_{flag}": flag == "mean_tokens" for flag in flags}
    write(out / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, **pooling, "include_prompt": True})
    write(out / "2_Dense" / "config.json", {
        "in_features": WIDTH, "out_features": POOLED, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh",
    })
    generator = torch.Generator().manual_seed(7)
    weight = 0.15 * torch.randn(POOLED, WIDTH, generator=generator)
    bias = 0.1 * torch.randn(POOLED, generator=generator)
    save_file({"linear.weight": weight, "linear.bias": bias}, out / "2_Dense" / "model.safetensors", {"format": "pt"})
    (out / "3_Normalize").mkdir()


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def make(arch, out, untied=False, shards=False, layers=2):
    depth = {name: layers for name in SHAPES[arch] if name in ("num_hidden_layers", "n_layer", "num_layers")}
    config = AutoConfig.for_model(arch, **{**SHAPES[arch], **depth})
    config.tie_word_embeddings = not untied
    torch.manual_seed(0)
    model = (AutoModel if arch == "bert" else AutoModelForCausalLM).from_config(config)
    randomise(model, seed=list(SHAPES).index(arch))
    out.mkdir(parents=True)
    model.half().save_pretrained(out, max_shard_size="200KB" if shards else "5GB")
    for name in TOKENIZER:
        shutil.copyfile(HERE / "dictlm" / name, out / name)
    if arch == "bert":
        tokenizer = json.loads((out / "tokenizer_config.json").read_text())
        write(out / "tokenizer_config.json", {**tokenizer, "pad_token": "<|endoftext|>", "model_max_length": 128})
        sentence_transformer(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arch", choices=SHAPES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--untied", action="store_true", help="a head of its own")
    parser.add_argument("--shards", action="store_true", help="several safetensors files and their index")
    parser.add_argument("--layers", type=int, default=2, help="how many; gpt_neo takes an even number")
    args = parser.parse_args()
    make(args.arch, args.out, args.untied, args.shards, args.layers)


if __name__ == "__main__":
    main()
