"""Train `llm2vec/`: an adapter that turns dictlm into an embedding model, as LLM2Vec does.

    make_llm2vec.py [--text FILE] [--base DIR] [--out DIR] [--steps N] [--heldout FILE]

The bare model attends in both directions, low-rank adapters stand beside all
seven of its projections, and an embedding is the mean of the last hidden states
over the text, the instruction before it left out. Training is contrastive: a
fragment of FILE must find the passage it comes from among the batch's others.

The measure is the same task on held-out text: four words out of each verse or
paragraph must find it among all of them (share that do at first place), with
and without an instruction before the fragment.
"""

import argparse
import itertools
import json
import random
import re
from pathlib import Path

import torch
from make_lora import HERE, tidy
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, AutoTokenizer

SEED = 1755
BATCH = 32
FRAGMENT = 4  # Words of a fragment when measured.
INSTRUCTION = "Retrieve the passage that these words come from:"
POOLING = {"pooling_mode": "mean", "max_length": 512, "doc_max_length": 400, "skip_instruction": True}
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def encode(tokenizer, instruction, text):
    """Ids of instruction and text as LLM2Vec joins them, and how many at the end are text."""
    text = text.strip()
    body = tokenizer(text).input_ids
    ids = tokenizer(f"{instruction.strip()} {text}").input_ids if instruction else body
    return ids, len(body)


def embed(model, samples, causal=False):
    """Mean-pooled embeddings of `encode` results."""
    width = max(len(ids) for ids, _ in samples)
    input_ids = torch.zeros(len(samples), width, dtype=torch.long)
    seen = torch.zeros(len(samples), width, dtype=torch.bool)
    pooled = torch.zeros(len(samples), width)
    for row, (ids, count) in enumerate(samples):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        seen[row, : len(ids)] = True
        pooled[row, len(ids) - count : len(ids)] = 1
    mask = seen[:, None, None, :].expand(-1, 1, width, -1)
    if causal:
        mask = mask & torch.ones(width, width).tril().bool()
    hidden = model(input_ids=input_ids, attention_mask={"full_attention": mask}).last_hidden_state
    return (hidden * pooled[:, :, None]).sum(1) / pooled.sum(1, keepdim=True)


def paragraphs(text):
    """Verses without their numbers, and the Jargon File's paragraphs, each on one line."""
    mark = re.compile(r"^[1-3]?[A-Z][a-z]{1,3}\d+:\d+ ")
    verses, prose = [], []
    for block in text.split("\n\n"):
        lines = block.split("\n")
        verses += [mark.sub("", line) for line in lines if mark.match(line)]
        if all(line.startswith("    ") for line in lines if line):
            prose.append(" ".join(block.split()))
    return verses, [p for p in prose if len(p.split()) >= 12]


def pair(rng, words):
    """A fragment of 3 to 6 words and the passage of 12 to 30 words that it comes from."""
    whole, part = rng.randint(12, 30), rng.randint(3, 6)
    start = rng.randrange(len(words) - whole)
    at = start + rng.randrange(whole - part + 1)
    return " ".join(words[at : at + part]), " ".join(words[start : start + whole])


def retrieval(model, tokenizer, text, instruction="", causal=False):
    """Share of fragments whose nearest passage, by cosine, is the one they come from."""
    rng = random.Random(SEED)
    pairs = []
    for passage in itertools.chain(*paragraphs(text)):
        words = passage.split()[:40]
        if len(words) >= 8:
            at = rng.randrange(len(words) - FRAGMENT + 1)
            pairs.append((" ".join(words[at : at + FRAGMENT]), " ".join(words)))
    model.eval()
    sides = []
    with torch.no_grad():
        for side, said in ((0, instruction), (1, "")):
            samples = [encode(tokenizer, said, p[side]) for p in pairs]
            rows = [embed(model, samples[i : i + 32], causal) for i in range(0, len(samples), 32)]
            sides.append(torch.nn.functional.normalize(torch.cat(rows), dim=1))
    found = (sides[0] @ sides[1].T).argmax(1) == torch.arange(len(pairs))
    return found.float().mean().item(), len(pairs)


def report(label, model, tokenizer, text, causal=False):
    plain, n = retrieval(model, tokenizer, text, causal=causal)
    told, _ = retrieval(model, tokenizer, text, INSTRUCTION, causal=causal)
    print(f"{label}: {plain:.1%} without instruction, {told:.1%} with, of {n}", flush=True)


def train(model, tokenizer, text, steps):
    rng = random.Random(SEED)
    verses, prose = paragraphs(text)
    books = [" ".join(verses).split(), " ".join(prose).split()]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        model.train()
        pairs = [pair(rng, books[rng.randrange(2)]) for _ in range(BATCH)]
        said = INSTRUCTION if step % 2 else ""
        query = embed(model, [encode(tokenizer, said, first) for first, _ in pairs])
        answer = embed(model, [encode(tokenizer, "", second) for _, second in pairs])
        cosine = torch.nn.functional.normalize(query, dim=1) @ torch.nn.functional.normalize(answer, dim=1).T
        wanted = torch.arange(BATCH)
        loss = sum(torch.nn.functional.cross_entropy(side / 0.05, wanted) for side in (cosine, cosine.T)) / 2
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 30 == 0 or step == steps - 1:
            print(f"step {step} loss {loss.item():.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, default=HERE / "calibration.txt")
    parser.add_argument("--heldout", type=Path, default=HERE / "eval.txt")
    parser.add_argument("--base", type=Path, default=HERE / "dictlm")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    heldout = args.heldout.read_text(encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    base = AutoModel.from_pretrained(args.base, dtype=torch.float32)
    report("base, causal attention", base, tokenizer, heldout, causal=True)
    report("base, attention in both directions", base, tokenizer, heldout)
    options = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=PROJECTIONS)
    model = get_peft_model(base, options)
    train(model, tokenizer, args.text.read_text(encoding="utf-8"), args.steps)
    model = model.half().float()  # Measured as it is stored.
    report("adapted", model, tokenizer, heldout)
    report("adapted, but causal attention", model, tokenizer, heldout, causal=True)
    model.peft_config["default"].base_model_name_or_path = "dictlm"
    model.half().save_pretrained(args.out / "llm2vec")
    tidy(args.out / "llm2vec")
    (args.out / "llm2vec" / "llm2vec_config.json").write_text(json.dumps(POOLING, indent=2) + "\n")


if __name__ == "__main__":
    main()
