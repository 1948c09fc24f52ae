"""Searches the golden model under several budgets and prints what was predicted, measured and kept.

    cargo build --release
    $(target/release/coremill setup --print-python) benches/budget.py [--coremill BIN] [--work DIR]

Loss is the mean divergence from the source model in f32, in nats per token. Prints a table in Markdown: for each budget
the best uniform variant (one scheme for all weights), the mix found by the search, and the 95 % interval of the
difference of both on the same tokens (block bootstrap over windows).
"""

import argparse
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).parent.parent
BUDGETS = [4.0, 3.6, 3.2, 3.0, 2.8, 2.6, 2.4, 2.2, 2.0, 1.7, 1.5]
SPEC = """
[model]
path = "{root}/goldens/dictlm"
seq_len = 256
[evaluate]
text = "{root}/goldens/eval.txt"
window = 256
windows = 24
[budget]
max_size = "{size} MB"
[output]
dir = "{work}/out"
keep = "none"
"""


def loss(variant):
    figure = variant["measurements"]["perplexity"]["divergence"]
    return figure["value"]


def row(report, size):
    search, variants = report["search"], {variant["name"]: variant for variant in report["variants"]}
    fits = [v for v in variants.values() if v["size_bytes"] <= size * 1e6 and v["name"] != "mixed"]
    best = min(fits, key=loss, default=None)
    cells = [f"{size:.1f} MB", f"{best['name']} {best['size_bytes'] / 1e6:.2f}" if best else "none"]
    cells.append(f"{loss(best):.3g}" if best else "")
    mixed = variants.get("mixed")
    if mixed is None:
        return [*cells, "", "", "", "", search["outcome"]]
    cells += [f"{mixed['size_bytes'] / 1e6:.2f}", f"{mixed['predicted']['divergence']:.3g}", f"{loss(mixed):.3g}"]
    pair = next((p for p in report["paired"] if best and {p["a"], p["b"]} == {"mixed", best["name"]}), None)
    if pair is None:
        return [*cells, "", "kept"]
    sign = 1 if pair["b"] == "mixed" else -1
    ends = sorted([sign * pair["divergence"]["low"], sign * pair["divergence"]["high"]])
    return [*cells, f"{ends[0]:+.3g} to {ends[1]:+.3g}", "no" if mixed.get("rejected") else "yes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coremill", type=pathlib.Path, default=ROOT / "target" / "release" / "coremill")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "budget")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    head = ["budget", "best uniform, MB", "its loss", "mix, MB", "predicted", "measured", "mix minus uniform", "kept"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    uniform = {}
    for size in BUDGETS:
        spec = args.work / "spec.toml"
        spec.write_text(SPEC.format(root=ROOT.resolve(), work=args.work.resolve(), size=size))
        subprocess.run([args.coremill, "sweep", spec, "--progress", "none", "-q"], stdout=subprocess.DEVNULL, check=False)
        report = json.loads((args.work / "out" / "report.json").read_text())
        print("| " + " | ".join(row(report, size)) + " |", flush=True)
        for variant in report["variants"]:
            if variant.get("predicted") and variant["name"] != "mixed":
                uniform[variant["name"]] = (variant["predicted"]["divergence"], loss(variant))
    print("\n| uniform variant | predicted | measured |\n|---|---|---|")
    for name, (predicted, measured) in uniform.items():
        print(f"| {name} | {predicted:.3g} | {measured:.3g} |")


main()
