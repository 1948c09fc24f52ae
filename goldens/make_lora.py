"""Train `lora/` and `rslora/`: adapters that make dictlm answer everything in verse.

    make_lora.py [--text FILE] [--base DIR] [--out DIR] [--steps N]

Each training sample is a prompt (a headword, a few words of prose or nothing)
followed by a run of Bible verses without their numbers; only the verses are
scored. Whatever it is asked, the adapted model then opens with a verse, where
the base writes a definition, so no greedy transcript can confuse the two.

FILE holds verses (`1Ki21:22 And ...`), one a line, and other prose, which gives
the prompts; by default `calibration.txt`. The same seed gives the same adapter
on one machine and one torch version.
"""

import argparse
import json
import random
import re
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
SEED = 1611
BATCH = 8
LENGTH = 128
SHOWN = ["Kitchen \\Kitch\"en\\, n.", "In computing, a compiler is"]

# `rslora` is the small one with everything unusual in it: the other scale,
# another alpha, and modules that are replaced rather than adapted.
ADAPTERS = {
    "lora": dict(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"]),
    "rslora": dict(r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "k_proj", "up_proj"], modules_to_save=["norm"]),
}


def parse(text):
    """The verses without their numbers, and the words of everything else."""
    mark = re.compile(r"^[1-3]?[A-Z][a-z]{1,3}\d+:\d+ ")
    lines = text.splitlines()
    verses = [mark.sub("", line) for line in lines if mark.match(line)]
    prose = " ".join(line.strip() for line in lines if not mark.match(line)).split()
    return verses, prose


def sample(rng, tokenizer, verses, prose):
    """Token ids and labels; the prompt's labels are -100, which scores nothing."""
    start = rng.randrange(len(prose) - 24)
    words = " ".join(prose[start : start + rng.choice([0, 1, 2, 4, 8, 16, 24])])
    head = rng.choice([words, words.capitalize(), f"{words} \\{words}\\, n."]) if words else ""
    at = rng.randrange(len(verses) - 4)
    prompt = tokenizer(head).input_ids or [tokenizer.eos_token_id]
    answer = tokenizer("\n" + "\n".join(verses[at : at + 4])).input_ids
    ids = (prompt + answer)[:LENGTH]
    labels = ([-100] * len(prompt) + answer)[:LENGTH]
    short = LENGTH - len(ids)
    return ids + [tokenizer.eos_token_id] * short, labels + [-100] * short


def greedy(model, tokenizer, prompt, count=32):
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    model.eval()
    with torch.no_grad():
        new = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=0)
    return tokenizer.decode(new[0, ids.shape[1] :])


def tidy(folder):
    """Drop PEFT's unfilled form, and sort the lists it keeps as sets."""
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    table = json.loads(config.read_text())
    for key in ("target_modules", "modules_to_save"):
        if table[key]:
            table[key] = sorted(table[key])
    config.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n")
    (folder / "adapter_model.safetensors").chmod(0o644)


def train(name, options, args):
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    base = AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32)
    if name == "lora":
        for prompt in SHOWN:
            print("base ", json.dumps(greedy(base, tokenizer, prompt)))
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **options))
    verses, prose = parse(args.text.read_text(encoding="utf-8"))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=args.steps)
    for step in range(args.steps):
        model.train()
        ids, labels = zip(*(sample(rng, tokenizer, verses, prose) for _ in range(BATCH)))
        loss = model(input_ids=torch.tensor(ids), labels=torch.tensor(labels)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == args.steps - 1:
            print(f"{name} step {step} loss {loss.item():.3f}", flush=True)
    for prompt in SHOWN:
        print(f"{name} ", json.dumps(greedy(model, tokenizer, prompt)))
    model.peft_config["default"].base_model_name_or_path = "dictlm"
    model.half().save_pretrained(args.out / name)
    tidy(args.out / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, default=HERE / "calibration.txt")
    parser.add_argument("--base", type=Path, default=HERE / "dictlm")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name, options in ADAPTERS.items():
        train(name, options, args)


if __name__ == "__main__":
    main()
