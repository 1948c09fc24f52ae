"""Compresses one package with coremltools and with coremill, and prints time, memory and error side by side.

    cargo build --release
    $(target/release/coremill setup --print-python) benches/compress.py [--shape qwen3-0.6b] [--layers 4] [--work DIR] [--markdown FILE]

The package has one function, because coremltools' passes reject several. coremltools' time is that of its pass on a
loaded package; coremill's is that of the whole command: reading, compressing, SHA-256, writing. Squared errors are summed
over all weights that both compressed, each package read by coremltools' own frontend. `copy` is the time to read the
package and to write as many bytes as the result has to disk, a lower bound for any program.

The share of zeros after magnitude pruning is printed below the table: coremltools computes `np.percentile` in fp16, which is
NaN for more than 65,520 values, and then prunes nothing.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

from process import watch

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = os.environ.get("COREMILL", ROOT / "target" / "release" / "coremill")
sys.path.insert(0, str(ROOT / "python"))


def linear(dtype, granularity, **more):
    return {"kind": "linear", "mode": "linear_symmetric", "dtype": dtype, "granularity": granularity, **more}


def palette(bits, mode="kmeans", **more):
    return {"kind": "palettize", "mode": mode, "nbits": bits, **more}


GROUPS = [palette(4, granularity="per_grouped_channel", group_size=16)]
HALF = {"kind": "prune", "target_sparsity": 0.5}
# One line per row of the table: coremltools' passes in order, coremill's recipe, more flags.
CASES = (
    (GROUPS, "pal4-g16", ()),
    (GROUPS, "pal4-g16", ("--exact",)),
    ([palette(6)], "pal6-t", ()),
    ([linear("int4", "per_block", block_size=32)], "int4-b32", ()),
    ([linear("int8", "per_channel")], "int8-c", ()),
    ([HALF], "sparse50", ()),
    ([HALF, linear("int8", "per_channel")], "sparse50+int8-c", ()),
    ([palette(4, "uniform")], "uniform4-t", ()),
    ([*GROUPS, linear("int8", "per_tensor")], "pal4-g16+lut8", ()),
    ([palette(3, cluster_dim=2)], "pal3-t-v2", ()),
)  # fmt: skip


def apart(function, *arguments):
    """The result of `function` in a separate process, and the peak memory of that process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (function, arguments))


def measured(function, arguments):
    value = function(*arguments)
    return value, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make(checkpoint, package):
    from coremill.entry import call

    request = {"op": "convert_full", "model": str(checkpoint), "out": str(package), "seq_len": 256,
               "prompt_chunk": 64, "functions": ["decode"]}  # fmt: skip
    response = json.loads(call(json.dumps(request)))
    if "ok" not in response:
        sys.exit(f"conversion failed: {response['error']}")


def timed(command):
    """Duration of a command in seconds."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def theirs(package, scheme, out):
    """Duration of coremltools' passes in seconds."""
    import coremltools as ct
    from coremill.compressed import passes

    model = ct.models.MLModel(str(package), skip_model_load=True)
    start = time.perf_counter()
    for apply in passes([{"scheme": scheme}]):
        model = apply(model)
    seconds = time.perf_counter() - start
    model.save(str(out))
    return seconds


def errors(dense, first, second):
    """For two packages, over the weights that both compressed: Σ (compressed − original)², the share of zeros, the number
    of these weights, and the number of other weights of each."""
    import numpy as np
    from coremill.compressed import dequantize
    from safetensors import safe_open

    with tempfile.TemporaryDirectory(dir=dense.parent) as folder:
        files = [f"{folder}/{i}.safetensors" for i in range(2)]
        for package, file in zip((first, second), files):
            dequantize({"package": str(package), "out": file})
        originals = constants(dense)
        with safe_open(files[0], "np") as a, safe_open(files[1], "np") as b:
            sides = [(side, whole(side, originals)) for side in (a, b)]
            common = sorted(sides[0][1].keys() & sides[1][1].keys())
            sums, zeros, elements = [0.0, 0.0], [0, 0], 0
            for name in common:
                original = originals[name].astype(np.float64)
                elements += original.size
                for i, (side, names) in enumerate(sides):
                    values = side.get_tensor(names[name])
                    sums[i] += float(((values.astype(np.float64) - original) ** 2).sum())
                    zeros[i] += int(np.count_nonzero(values == 0))
            missing = [len(names) - len(common) for _, names in sides]
    return sums, [n / max(elements, 1) for n in zeros], len(common), missing


def whole(side, originals):
    """Dequantized weights of a file by the original names, without intermediate tables and masks."""
    found = {}
    for name in side.keys():
        original = originals.get(plain(name))
        part = side.get_slice(name)
        if original is not None and part.get_shape() == list(original.shape) and part.get_dtype() in ("F16", "F32"):
            found[plain(name)] = name
    return found


def plain(name):
    """A weight's name without the suffix that coremltools' passes add."""
    return re.sub(r"(_quantized|_palettized_pcs|_palettized|_sparsified)$", "", name)


def constants(package):
    """Weights of the fp16 package by the names of `dequantize`."""
    import numpy as np
    from coremill.compressed import program

    return {
        f"{name}/{op.outputs[0].name}": op.outputs[0].val
        for name, function in program(str(package)).functions.items()
        for op in function.operations
        if op.op_type == "const" and isinstance(op.outputs[0].val, np.ndarray) and op.outputs[0].val.size >= 2048
    }


def size(package):
    return sum(file.stat().st_size for file in package.rglob("*") if file.is_file())


def copy(package, length, folder):
    """Seconds to read the package from the page cache and write `length` bytes to disk: the faster of two runs."""
    times = []
    block = bytes(1 << 24)
    for _ in range(2):
        start = time.perf_counter()
        for file in package.rglob("*"):
            if file.is_file():
                with file.open("rb", buffering=0) as source:
                    while source.read(1 << 24):
                        pass
        with tempfile.NamedTemporaryFile(dir=folder) as target:
            for at in range(0, length, len(block)):
                target.write(block[: length - at])
            target.flush()
            # As coremill does before it says that a package is there.
            os.fsync(target.fileno())
            times.append(time.perf_counter() - start)
    return min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="qwen3-0.6b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--only", nargs="*", help="recipes to run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of coremill; the quickest counts")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "compress")
    parser.add_argument("--markdown", type=pathlib.Path)
    args = parser.parse_args()
    work = args.work / f"{args.shape}-{args.layers or 'all'}"
    work.mkdir(parents=True, exist_ok=True)
    checkpoint, dense = work / "checkpoint", work / "decode.mlpackage"
    if not (checkpoint / "config.json").exists():
        maker = [sys.executable, ROOT / "benches" / "make_checkpoint.py", checkpoint, "--shape", args.shape]
        subprocess.run([*maker, *(["--layers", str(args.layers)] if args.layers else [])], check=True)
    if not dense.exists():
        apart(make, checkpoint, dense)
    reference, ours = work / "theirs.mlpackage", work / "ours.mlpackage"
    rows, seen = [], None
    for scheme, recipe, flags in CASES:
        if args.only and recipe not in args.only:
            continue
        if scheme is not seen:
            shutil.rmtree(reference, ignore_errors=True)
            seconds, memory = apart(theirs, dense, scheme, reference)
            seen = scheme
        command = [BINARY, "quantize", dense, "--recipe", recipe, "--output", ours, "--force", "--quiet", *flags]
        command = list(map(str, command))
        # Watching the memory costs a fifth of the time: it is done in a run of its own.
        times = [timed(command) for _ in range(args.rounds)]
        watched, _ = watch(command, stdout=subprocess.DEVNULL)
        (their_error, our_error), zeros, weights, missing = apart(errors, dense, reference, ours)[0]
        best = min(times)
        rows.append(dict(
            recipe=" ".join([recipe, *flags]), weights=weights, only_theirs=missing[0], only_ours=missing[1],
            coremltools_seconds=seconds, coremltools_peak_bytes=memory, coremltools_squared_error=their_error,
            seconds=best, peak_anonymous_bytes=watched["peak_anonymous_bytes"],
            squared_error=our_error, coremltools_zeros=zeros[0], zeros=zeros[1], copy_seconds=copy(dense, size(ours), work), bytes=size(ours),
        ))  # fmt: skip
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    elements = sum(value.size for value in constants(dense).values())
    print(json.dumps(dict(shape=args.shape, layers=args.layers, elements=elements, rows=rows), indent=2))
    if args.markdown:
        args.markdown.write_text(markdown(rows))


def markdown(rows):
    lines = [
        "| recipe | coremltools | coremill | × | squared error, × coremltools' | peak memory, coremltools | coremill (anonymous) | × the copy |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| `{row['recipe']}` | {row['coremltools_seconds']:.1f} s | {row['seconds']:.2f} s "
        f"| {row['coremltools_seconds'] / row['seconds']:.0f} "
        f"| {ratio(row)} "
        f"| {row['coremltools_peak_bytes'] / 1e9:.1f} GB | {row['peak_anonymous_bytes'] / 1e6:.0f} MB "
        f"| {row['seconds'] / row['copy_seconds']:.1f} |"
        for row in rows
    ]
    pruned = [
        f"`{row['recipe']}`: {row['coremltools_zeros']:.1%} of the values are zero in coremltools' package, {row['zeros']:.1%} in coremill's."
        for row in rows
        if row["recipe"].startswith(("sparse", "below"))
    ]
    return "\n".join([*lines, "", *pruned, ""] if pruned else [*lines, ""])


def ratio(row):
    """Ratio of coremill's squared error to coremltools', which is 0 if the pass did nothing."""
    theirs = row["coremltools_squared_error"]
    return f"{row['squared_error'] / theirs:.5f}" if theirs else f"{row['squared_error']:.3g} against 0"


if __name__ == "__main__":
    main()
