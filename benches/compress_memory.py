"""Peak anonymous memory and duration of `coremill quantize` on a large package, for each recipe.

    python benches/make_checkpoint.py ckpt --shape llama-3.1-8b --layers 1
    coremill convert --model ckpt --seq-len 256 -o big.mlpackage
    python benches/compress_memory.py big.mlpackage [--only RECIPE…] [--markdown FILE]

One layer is enough: only chunks of one weight are in memory at a time, and the package has the largest weights of the
model, the embedding and the head.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from process import watch

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = os.environ.get("COREMILL", ROOT / "target" / "release" / "coremill")
RECIPES = (
    "pal4-g16", "pal6-t", "pal4-g16-a1", "pal3-t-v2", "pal4-g16-s", "uniform4-t", "int8-c", "int4-b32", "uint4-b32", "int4-b32-ls",
    "sparse50", "sparse2:4", "sparse50+pal4-g16", "sparse50+int8-c",
)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=pathlib.Path)
    parser.add_argument("--only", nargs="*", help="recipes to run")
    parser.add_argument("--markdown", type=pathlib.Path)
    args = parser.parse_args()
    size = sum(file.stat().st_size for file in args.package.rglob("*") if file.is_file())
    rows = []
    for recipe in args.only or RECIPES:
        with tempfile.TemporaryDirectory(dir=args.package.resolve().parent) as folder:
            out = pathlib.Path(folder) / "out.mlpackage"
            command = [BINARY, "quantize", args.package, "--recipe", recipe, "--output", out, "--quiet"]
            run, _ = watch(list(map(str, command)), stdout=subprocess.DEVNULL)
            written = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        rows.append(dict(recipe=recipe, bytes=written, **run))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(json.dumps(dict(package_bytes=size, rows=rows), indent=2))
    if args.markdown:
        args.markdown.write_text(markdown(rows))


def markdown(rows):
    lines = ["| recipe | peak anonymous memory | written |", "|---|--:|--:|"]
    lines += [
        f"| `{row['recipe']}` | {row['peak_anonymous_bytes'] / 1e6:.0f} MB | {row['bytes'] / 1e9:.2f} GB |" for row in rows
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
