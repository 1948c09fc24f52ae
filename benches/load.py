"""Loads packages of a gigabyte, continues a prompt, and prints load time and memory.

    cargo build --release
    $(target/release/coremill setup --print-python) benches/load.py [--shape qwen3-0.6b] [--work DIR] [--markdown FILE]

Each package is run once to warm the page cache, then `--rounds` times; the fastest load counts. `needed` is the size of the
package and its states, for comparison with peak resident memory.
"""

import argparse
import json
import math
import os
import pathlib
import re
import subprocess
import sys

from process import watch

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECIPES = ("fp16", "pal4-g16", "int4-b32")
BINARY = os.environ.get("COREMILL", ROOT / "target" / "release" / "coremill")


def coremill(*arguments):
    subprocess.run([BINARY, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="qwen3-0.6b")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "load")
    parser.add_argument("--markdown", type=pathlib.Path)
    args = parser.parse_args()
    work = args.work / args.shape
    checkpoint = work / "checkpoint"
    if not (checkpoint / "config.json").exists():
        maker = [sys.executable, ROOT / "benches" / "make_checkpoint.py", checkpoint, "--shape", args.shape]
        subprocess.run(maker, check=True)
    packages = {recipe: work / f"{recipe}.mlpackage" for recipe in RECIPES}
    if not packages["fp16"].exists():
        coremill("convert", "--model", checkpoint, "--seq-len", 1024, "--output", packages["fp16"])
    for recipe in RECIPES[1:]:
        if not packages[recipe].exists():
            coremill("quantize", packages["fp16"], "--recipe", recipe, "--output", packages[recipe])
    rows = []
    for recipe, package in packages.items():
        command = [BINARY, "generate", package, "--prompt", "the word is", "--max-tokens", "8", "--format", "json"]
        runs = [watch([*map(str, command)], stdout=subprocess.PIPE) for _ in range(1 + args.rounds)][1:]
        size = sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
        states = state_bytes(package)
        rows.append(dict(
            recipe=recipe, package_bytes=size, state_bytes=states,
            load_s=min(json.loads(output)["timing"]["load_s"] for _, output in runs),
            peak_resident_bytes=max(taken["peak_resident_bytes"] for taken, _ in runs),
            peak_anonymous_bytes=max(taken["peak_anonymous_bytes"] for taken, _ in runs),
        ))  # fmt: skip
    print(json.dumps(dict(shape=args.shape, rounds=args.rounds, packages=rows), indent=2))
    if args.markdown:
        args.markdown.write_text(markdown(rows))


def state_bytes(package):
    """States that `inspect` lists among the inputs of a function: `state<fp16[8, 8, 1024, 128]>`."""
    shown = subprocess.run([BINARY, "inspect", package, "--format", "json"], check=True, capture_output=True)
    inputs = json.loads(shown.stdout)["functions"][0]["inputs"]
    shapes = [re.search(r"state<fp16\[(.*)\]>", line) for line in inputs]
    return sum(2 * math.prod(map(int, shape[1].split(","))) for shape in shapes if shape)


def markdown(rows):
    lines = [
        "| | package | states | load | peak resident | of package and states | peak anonymous |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        needed = row["package_bytes"] + row["state_bytes"]
        lines.append(
            f"| {row['recipe']} | {mb(row['package_bytes'])} | {mb(row['state_bytes'])} | {row['load_s']:.2f} s "
            f"| {mb(row['peak_resident_bytes'])} | {row['peak_resident_bytes'] / needed:.2f} "
            f"| {mb(row['peak_anonymous_bytes'])} |"
        )
    return "\n".join([*lines, ""])


def mb(n):
    return f"{n / 1e6:.0f} MB"


main()
