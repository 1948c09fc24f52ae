"""Converts a large checkpoint with the release binary and prints its time, memory and bytes written.

    cargo build --release
    $(target/release/coremill setup --print-python) benches/scale.py [--shape llama-3.1-8b] [--layers N] [--seq-len 2048] [--work DIR]

Peak anonymous memory is the largest `RssAnon` of /proc/PID/status, sampled every 20 ms, which excludes file
pages; bytes written come from /proc/PID/io. Prints one JSON object.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

from process import watch

ROOT = pathlib.Path(__file__).parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="llama-3.1-8b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "scale")
    args = parser.parse_args()
    checkpoint, package = args.work / "checkpoint", args.work / "out.mlpackage"
    if not (checkpoint / "config.json").exists():
        layers = ["--layers", str(args.layers)] if args.layers else []
        maker = [sys.executable, str(ROOT / "benches" / "make_checkpoint.py"), str(checkpoint)]
        subprocess.run([*maker, "--shape", args.shape, *layers], check=True)
    shutil.rmtree(package, ignore_errors=True)
    command = [str(ROOT / "target" / "release" / "coremill"), "convert", "--model", str(checkpoint)]
    taken, _ = watch([*command, "--seq-len", str(args.seq_len), "--output", str(package), "--progress", "none"])
    weights = package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    source = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    print(json.dumps(dict(
        shape=args.shape, layers=args.layers, seq_len=args.seq_len, checkpoint_bytes=source,
        weight_bin_bytes=weights.stat().st_size, **taken,
    ), indent=2))  # fmt: skip


main()
