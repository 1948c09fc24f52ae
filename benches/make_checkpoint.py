"""Makes a Llama-shaped checkpoint with random weights in sharded safetensors, without torch.

    python benches/make_checkpoint.py OUT [--shape llama-3.1-8b] [--layers 32]

Weights are bf16, normal with the standard deviation 0.02; each tensor is a rotation of one block of 32 Mi values, so
that writing a large checkpoint is limited by the disk. The tokenizer is that of goldens/dictlm; only the shape matters.
"""

import argparse
import json
import pathlib
import shutil
import struct

import numpy as np

SHAPES = {
    "llama-3.1-8b": dict(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
        num_attention_heads=32, num_key_value_heads=8, head_dim=128, max_position_embeddings=131072,
        tie_word_embeddings=False, rope_theta=500000.0,
    ),
    "llama-3.2-1b": dict(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
        num_attention_heads=32, num_key_value_heads=8, head_dim=64, max_position_embeddings=131072,
        tie_word_embeddings=True, rope_theta=500000.0,
    ),
    "qwen3-160m": dict(
        vocab_size=32768, hidden_size=1024, intermediate_size=3072, num_hidden_layers=8,
        num_attention_heads=16, num_key_value_heads=8, head_dim=128, max_position_embeddings=40960,
        tie_word_embeddings=True, rope_theta=1000000.0,
    ),
    "qwen3-0.6b": dict(
        vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28,
        num_attention_heads=16, num_key_value_heads=8, head_dim=128, max_position_embeddings=40960,
        tie_word_embeddings=True, rope_theta=1000000.0,
    ),
}  # fmt: skip
SHARD_BYTES = 5_000_000_000
BLOCK = 1 << 25


def tensors(config, qwen):
    """Names and shapes in the order of the model."""
    hidden, feed = config["hidden_size"], config["intermediate_size"]
    width = config["head_dim"]
    query, key = config["num_attention_heads"] * width, config["num_key_value_heads"] * width
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", (hidden,)
        yield at + "self_attn.q_proj.weight", (query, hidden)
        yield at + "self_attn.k_proj.weight", (key, hidden)
        yield at + "self_attn.v_proj.weight", (key, hidden)
        yield at + "self_attn.o_proj.weight", (hidden, query)
        if qwen:
            yield at + "self_attn.q_norm.weight", (width,)
            yield at + "self_attn.k_norm.weight", (width,)
        yield at + "post_attention_layernorm.weight", (hidden,)
        yield at + "mlp.gate_proj.weight", (feed, hidden)
        yield at + "mlp.up_proj.weight", (feed, hidden)
        yield at + "mlp.down_proj.weight", (hidden, feed)
    yield "model.norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], hidden)


def shards(named):
    """Groups of tensors below the size of a shard."""
    group, size = [], 0
    for name, shape in named:
        bytes_ = 2 * int(np.prod(shape))
        if group and size + bytes_ > SHARD_BYTES:
            yield group
            group, size = [], 0
        group.append((name, shape))
        size += bytes_
    yield group


def write_shard(path, group, block, rng):
    header, end = {}, 0
    for name, shape in group:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for name, shape in group:
            left = int(np.prod(shape))
            if name.endswith("norm.weight"):
                ones = np.full(left, 1.0, np.float32) + rng.standard_normal(left, np.float32) * 0.02
                file.write((ones.view(np.uint32) >> 16).astype(np.uint16).tobytes())
                continue
            at = int(rng.integers(0, BLOCK))
            while left:
                piece = block[at : at + left]
                file.write(piece.tobytes())
                left -= len(piece)
                at = 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--shape", choices=SHAPES, default="llama-3.1-8b")
    parser.add_argument("--layers", type=int)
    args = parser.parse_args()
    config = dict(SHAPES[args.shape])
    config["num_hidden_layers"] = args.layers or config["num_hidden_layers"]
    qwen = args.shape.startswith("qwen3")
    args.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(BLOCK, np.float32) * 0.02
    block = (normal.view(np.uint32) >> 16).astype(np.uint16)
    groups = list(shards(tensors(config, qwen)))
    places, total = {}, 0
    for index, group in enumerate(groups, 1):
        name = f"model-{index:05d}-of-{len(groups):05d}.safetensors"
        write_shard(args.out / name, group, block, rng)
        places |= {tensor: name for tensor, _ in group}
        total += sum(2 * int(np.prod(shape)) for _, shape in group)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (args.out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    config |= {
        "architectures": ["Qwen3ForCausalLM" if qwen else "LlamaForCausalLM"],
        "model_type": "qwen3" if qwen else "llama",
        "torch_dtype": "bfloat16", "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False, "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    (args.out / "config.json").write_text(json.dumps(config, indent=2))
    goldens = pathlib.Path(__file__).parent.parent / "goldens" / "dictlm"
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(goldens / name, args.out / name)


main()
