"""Measure what README.md states: perplexity on `eval.txt`, token counts, greedy outputs.

    measure.py

Perplexity is of dictlm in f32, in windows of 256 tokens without overlap, each
scored from its second token; a last, shorter window is left out.
"""

import json
import math

import torch
from make_lora import HERE, SHOWN, greedy
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

WINDOW = 256


def perplexity(model, tokenizer, text):
    ids = torch.tensor(tokenizer(text).input_ids)
    windows = ids[: len(ids) // WINDOW * WINDOW].view(-1, WINDOW)
    total = 0.0
    with torch.no_grad():
        for window in windows.split(8):
            logits = model(input_ids=window).logits[:, :-1]
            total += torch.nn.functional.cross_entropy(logits.flatten(0, 1).double(), window[:, 1:].flatten(), reduction="sum").item()
    return math.exp(total / (len(windows) * (WINDOW - 1))), len(windows)


def load(adapter=None):
    model = AutoModelForCausalLM.from_pretrained(HERE / "dictlm", dtype=torch.float32).eval()
    return PeftModel.from_pretrained(model, HERE / adapter).eval() if adapter else model


def main():
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(HERE / "dictlm")
    for name in ("prompts.json", "sentences.json"):
        rows = [row if isinstance(row, str) else row["text"] for row in json.loads((HERE / name).read_text(encoding="utf-8"))]
        print(name, [len(tokenizer(row).input_ids) for row in rows])
    text = (HERE / "eval.txt").read_text(encoding="utf-8")
    for adapter in (None, "lora", "rslora"):
        model = load(adapter)
        value, n = perplexity(model, tokenizer, text)
        print(f"{adapter or 'base'}: perplexity {value:.4f} over {n} windows")
        for prompt in SHOWN:
            print("  ", json.dumps(prompt), json.dumps(greedy(model, tokenizer, prompt)))


if __name__ == "__main__":
    main()
