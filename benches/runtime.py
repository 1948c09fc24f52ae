"""Compares coremill's runtime with `transformers` on PyTorch: same model, tokens and machine, alternating.

    cargo build --release
    $(target/release/coremill setup --print-python) benches/runtime.py [--shape qwen3-160m] [--rounds 3] [--work DIR]

Two figures for each: tokens per second of a perplexity pass (windows of 512 tokens, logits at every position) and of
greedy decoding (the median step after a prompt of 512; the KV cache has 1024 positions). Each round runs all contestants,
so that other load affects all of them; the best round of each counts. `coremill` is run as by a user: the perplexity pass of
`evaluate` is timed between the events of `--progress json` and includes the comparison with the reference; the decode step is
the one that `generate` reports.
Also prints the bounds of both figures: memory bandwidth and f32 matrix multiplication rate of this machine, measured in the
same rounds. Prints one JSON object and, with `--markdown FILE`, writes the table of docs/runtime-speed.md.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WINDOW, PROMPT, STEPS = 512, 512, 48
RECIPES = ("fp16", "pal4-g16", "int4-b32")


def coremill(*arguments, **options):
    return subprocess.run([binary(), *map(str, arguments)], check=True, **options)


def binary():
    return os.environ.get("COREMILL", ROOT / "target" / "release" / "coremill")


def prepare(work, shape, layers):
    """The checkpoint and its three packages, made once."""
    checkpoint = work / "checkpoint"
    if not (checkpoint / "config.json").exists():
        make = [sys.executable, ROOT / "benches" / "make_checkpoint.py", checkpoint, "--shape", shape]
        subprocess.run([*make, *(["--layers", str(layers)] if layers else [])], check=True)
    packages = {recipe: work / f"{recipe}.mlpackage" for recipe in RECIPES}
    if not packages["fp16"].exists():
        coremill("convert", "--model", checkpoint, "--seq-len", 1024, "--prompt-chunk", WINDOW,
                 "--output", packages["fp16"], stdout=subprocess.DEVNULL)  # fmt: skip
    for recipe in RECIPES[1:]:
        if not packages[recipe].exists():
            coremill("quantize", packages["fp16"], "--recipe", recipe, "--output", packages[recipe],
                     stdout=subprocess.DEVNULL)  # fmt: skip
    return checkpoint, packages


def ours(package, checkpoint, text, prompt, windows):
    """Seconds of the fastest perplexity window, of the median decode step and of loading, and the perplexity."""
    command = [binary(), "evaluate", package, "--reference", checkpoint, "--text", text, "--window", WINDOW,
               "--windows", windows, "--format", "json", "--progress", "json"]  # fmt: skip
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"evaluate ended with {run.returncode}: {run.stderr}")
    events = [json.loads(line) for line in run.stderr.splitlines() if line.startswith("{")]
    at = [e["seconds"] for e in events if e["event"] == "progress" and e["stage"] == "perplexity"]
    found = json.loads(run.stdout)[0]["measurements"]
    seconds = [after - before for before, after in zip([0.0, *at], at)]
    run = coremill("generate", package, "--prompt", prompt, "--max-tokens", STEPS, "--format", "json",
                   capture_output=True, text=True)  # fmt: skip
    timing = json.loads(run.stdout)["timing"]
    return min(seconds), timing["decode"]["p50_ms"] / 1e3, timing["load_s"], found["perplexity"]


class Torch:
    """The same checkpoint in `transformers`."""

    def __init__(self, checkpoint, dtype, tokens):
        import torch
        from transformers import AutoModelForCausalLM

        self.torch = torch
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype).eval()
        self.tokens = torch.tensor(tokens)

    def window(self, index):
        ids = self.tokens[None, index * WINDOW : (index + 1) * WINDOW]
        start = time.perf_counter()
        with self.torch.inference_mode():
            logits = self.model(ids, use_cache=False).logits
            logits.float().log_softmax(-1)
        return time.perf_counter() - start

    def step(self):
        """The median second of a decode step."""
        times = []
        with self.torch.inference_mode():
            out = self.model(self.tokens[None, :PROMPT], use_cache=True)
            for _ in range(STEPS):
                ids = out.logits[:, -1:].argmax(-1)
                start = time.perf_counter()
                out = self.model(ids, past_key_values=out.past_key_values, use_cache=True)
                times.append(time.perf_counter() - start)
        return statistics.median(times)


def machine():
    """Bytes per second read by all cores together, and FLOP/s of f32 matrix multiplication."""
    import torch

    big = torch.ones(1 << 28, dtype=torch.uint8).view(torch.int64)
    reads, products = [], []
    a, b = torch.randn(WINDOW, 1024), torch.randn(1024, 3072)
    for _ in range(3):
        start = time.perf_counter()
        big.sum()
        reads.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(4):
            a @ b
        products.append((time.perf_counter() - start) / 4)
    return big.numel() * 8 / min(reads), 2 * WINDOW * 1024 * 3072 / min(products)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="qwen3-160m")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "runtime")
    parser.add_argument("--recipes", nargs="*", default=RECIPES)
    parser.add_argument("--without-torch", action="store_true")
    parser.add_argument("--markdown", type=pathlib.Path)
    args = parser.parse_args()
    work = args.work / args.shape
    work.mkdir(parents=True, exist_ok=True)
    checkpoint, packages = prepare(work, args.shape, args.layers)
    text = ROOT / "goldens" / "eval.txt"
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokens = tokenizer.encode(text.read_text()).ids
    prompt = tokenizer.decode(tokens[:PROMPT])
    rounds = {}

    def note(name, window, step):
        rounds.setdefault(name, []).append((WINDOW / window, 1 / step))

    torches, rates = {}, []
    if not args.without_torch:
        import torch

        kinds = {"PyTorch f32": torch.float32, "PyTorch bf16": torch.bfloat16}
        torches = {name: Torch(checkpoint, dtype, tokens) for name, dtype in kinds.items()}
    figures, loads = {}, {}
    for _ in range(args.rounds):
        if torches:
            rates.append(machine())
        for name, model in torches.items():
            model.window(0)
            note(name, min(model.window(i) for i in range(args.windows)), model.step())
        for recipe in args.recipes:
            window, step, load, figures[recipe] = ours(packages[recipe], checkpoint, text, prompt, args.windows)
            note(recipe, window, step)
            loads.setdefault(recipe, []).append(load)
    best = {name: (max(r[0] for r in all_), max(r[1] for r in all_)) for name, all_ in rounds.items()}
    base = best.get("PyTorch f32", (1.0, 1.0))
    result = {
        "shape": args.shape, "weights": weights(checkpoint), "window": WINDOW, "rounds": args.rounds,
        "machine": {"read_bytes_per_second": max((r for r, _ in rates), default=None),
                    "f32_flop_per_second": max((p for _, p in rates), default=None)},
        "contestants": {
            name: {"perplexity_tokens_per_second": p, "decode_tokens_per_second": d,
                   "perplexity_ratio": p / base[0], "decode_ratio": d / base[1],
                   "weight_bytes": weight_bytes(name, packages),
                   "load_seconds": min(loads.get(name, []), default=None)}
            for name, (p, d) in best.items()
        },
        "perplexity": {name: figure["value"]["value"] for name, figure in figures.items()},
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if args.markdown:
        args.markdown.write_text(markdown(result))


def weights(checkpoint):
    """Number of weights multiplied for each token; the embedding counts once, as the head."""
    files = checkpoint.glob("*.safetensors")
    headers = (json.loads(read_header(file)) for file in files)
    return sum(math.prod(t["shape"]) for h in headers for name, t in h.items() if name != "__metadata__")


def read_header(file):
    with file.open("rb") as f:
        return f.read(int.from_bytes(f.read(8), "little"))


def weight_bytes(name, packages):
    if name not in packages:
        return None
    return sum(f.stat().st_size for f in packages[name].rglob("weight.bin"))


def markdown(result):
    rate = result["machine"]
    read, flop = rate["read_bytes_per_second"], rate["f32_flop_per_second"]
    lines = [
        "| | perplexity, tokens/s | × PyTorch f32 | decode, tokens/s | × PyTorch f32 | weights | share of GEMM peak | share of read bandwidth |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, c in result["contestants"].items():
        size = f"{c['weight_bytes'] / 1e6:.0f} MB" if c["weight_bytes"] else ""
        products = share(c["perplexity_tokens_per_second"] * 2 * result["weights"], flop)
        reading = share(c["decode_tokens_per_second"] * c["weight_bytes"], read) if size else ""
        lines.append(
            f"| {name} | {c['perplexity_tokens_per_second']:.0f} | {c['perplexity_ratio']:.2f} "
            f"| {c['decode_tokens_per_second']:.1f} | {c['decode_ratio']:.2f} | {size} | {products} | {reading} |"
        )
    lines += ["", f"{result['shape']} ({result['weights'] / 1e6:.0f}M weights), windows of {result['window']}, best of "
              f"{result['rounds']} rounds. Both cores: {flop / 1e9:.0f} GFLOP/s in PyTorch's f32 product, "
              f"{read / 1e9:.1f} GB/s in reading memory.", ""]  # fmt: skip
    return "\n".join(lines)


def share(used, whole):
    return f"{100 * used / whole:.0f} %"


main()
